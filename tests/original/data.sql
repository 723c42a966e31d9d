-- Rows as years of use leave them: no user, the same thing twice, limits that are none,
-- subscriptions that lead nowhere. Alice and Bob have the ids a1… and b0….

INSERT INTO auth.users (id) VALUES
    ('a1000000-0000-4000-8000-000000000001'), ('b0000000-0000-4000-8000-000000000002');

INSERT INTO token_usage (id, user_id, provider, model, tokens_used, token_limit, timestamp,
    created_at, updated_at) VALUES
    ('00000000-0000-4000-8000-000000000001', 'a1000000-0000-4000-8000-000000000001',
     'openai', 'gpt-4', 99999, 100000, '2025-05-01 10:00Z', '2025-01-01Z', '2025-05-01 10:00Z'),
    -- NULL is never equal to NULL: four rows of one key.
    ('00000000-0000-4000-8000-000000000002', NULL, 'openai', 'gpt-4', 10, 100000,
     '2025-05-01 08:00Z', '2025-05-01 08:00Z', '2025-05-01 08:00Z'),
    ('00000000-0000-4000-8000-000000000003', NULL, 'openai', 'gpt-4', 30, 100000,
     '2025-05-03 08:00Z', '2025-05-03 08:00Z', '2025-05-03 08:00Z'),
    ('00000000-0000-4000-8000-000000000004', NULL, 'openai', 'gpt-4', 20, 100000,
     '2025-05-02 08:00Z', '2025-05-02 08:00Z', '2025-05-04 08:00Z'),
    ('00000000-0000-4000-8000-000000000005', NULL, 'openai', 'gpt-4', 5, 100000,
     '2025-05-01 08:00Z', NULL, NULL),
    ('00000000-0000-4000-8000-000000000006', 'b0000000-0000-4000-8000-000000000002',
     'anthropic', 'claude-3-opus', 2147483647, -1, '2025-05-01Z', '2025-05-01Z', '2025-05-01Z'),
    ('00000000-0000-4000-8000-000000000007', 'b0000000-0000-4000-8000-000000000002',
     'anthropic', 'claude-3-haiku', -7, 0, '2035-05-01Z', '2025-05-01Z', '2025-05-01Z');

INSERT INTO token_thresholds (provider, user_id, threshold_percentage, is_active) VALUES
    ('openai', NULL, 80, true),
    ('openai', NULL, 80, false),
    ('openai', NULL, 95, NULL),
    ('anthropic', 'b0000000-0000-4000-8000-000000000002', 50, true);

INSERT INTO push_subscriptions (id, user_id, subscription, is_active, created_at, updated_at)
VALUES
    ('10000000-0000-4000-8000-000000000001', 'a1000000-0000-4000-8000-000000000001',
     '{"endpoint": "https://push.example/alice", "keys": {"p256dh": "BA", "auth": "YQ"}}',
     false, '2025-01-01Z', '2025-06-01Z'),
    ('10000000-0000-4000-8000-000000000002', NULL,
     '{"endpoint": "https://push.example/alice", "keys": {"p256dh": "BB", "auth": "Yg"}}',
     true, '2025-02-01Z', '2025-02-01Z'),
    ('10000000-0000-4000-8000-000000000003', NULL, '{"endpoint": "test"}', NULL,
     '2025-02-01Z', '2025-02-01Z'),
    ('10000000-0000-4000-8000-000000000004', NULL, '{}', true, NULL, NULL),
    ('10000000-0000-4000-8000-000000000005', NULL, '{"keys": {}}', true, NULL, NULL),
    ('10000000-0000-4000-8000-000000000006', NULL,
     '"{\"endpoint\": \"https://push.example/text\"}"', true, '2025-02-01Z', '2025-02-01Z');

INSERT INTO notification_history (id, user_id, subscription_id, provider, title, message,
    percentage, status, error_message, sent_at, created_at) VALUES
    ('20000000-0000-4000-8000-000000000001', 'a1000000-0000-4000-8000-000000000001',
     '10000000-0000-4000-8000-000000000001', 'openai', 'openai at 90 %', 'gpt-4 is at 90 %',
     90.00, 'sent', NULL, '2025-05-01Z', '2025-05-01Z'),
    ('20000000-0000-4000-8000-000000000002', NULL, NULL, 'openai', 'openai at 95 %',
     'gpt-4 is at 95 %', 95.00, 'failed', 'push service said 410', NULL, '2025-05-02Z'),
    ('20000000-0000-4000-8000-000000000003', NULL, NULL, 'openai', 'openai at 99 %',
     'gpt-4 is at 99 %', 99.00, 'pending', NULL, NULL, NULL),
    ('20000000-0000-4000-8000-000000000004', NULL, NULL, 'openai', 'openai at 99 %',
     'gpt-4 is at 99 %', 99.00, NULL, NULL, '2025-05-03Z', '2025-05-03Z');
