-- The tables of the service that Quotabell succeeds, as it kept them on Supabase: a typical
-- reconstruction. What Supabase itself brings (roles, the schema auth) is in hosted.sql.

CREATE OR REPLACE FUNCTION update_updated_at_column() RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at = NOW();
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;

CREATE TABLE IF NOT EXISTS token_usage (
    id UUID DEFAULT gen_random_uuid() PRIMARY KEY,
    user_id UUID REFERENCES auth.users(id) ON DELETE CASCADE,
    provider VARCHAR(50) NOT NULL,
    model VARCHAR(100) NOT NULL,
    tokens_used INTEGER NOT NULL DEFAULT 0,
    token_limit INTEGER NOT NULL,
    percentage DECIMAL(5,2) GENERATED ALWAYS AS (
        CASE WHEN token_limit > 0
            THEN LEAST((tokens_used::DECIMAL / token_limit) * 100, 999.99) ELSE 0 END
    ) STORED,
    timestamp TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW(),
    UNIQUE(user_id, provider, model)
);

CREATE TABLE IF NOT EXISTS token_thresholds (
    id UUID DEFAULT gen_random_uuid() PRIMARY KEY,
    provider VARCHAR(50) NOT NULL,
    user_id UUID REFERENCES auth.users(id) ON DELETE CASCADE,
    threshold_percentage INTEGER NOT NULL
        CHECK (threshold_percentage > 0 AND threshold_percentage <= 100),
    is_active BOOLEAN DEFAULT true,
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW(),
    UNIQUE(user_id, provider, threshold_percentage)
);

CREATE TABLE IF NOT EXISTS push_subscriptions (
    id UUID DEFAULT gen_random_uuid() PRIMARY KEY,
    user_id UUID REFERENCES auth.users(id) ON DELETE CASCADE,
    subscription JSONB NOT NULL,
    user_agent TEXT,
    is_active BOOLEAN DEFAULT true,
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE TABLE IF NOT EXISTS notification_history (
    id UUID DEFAULT gen_random_uuid() PRIMARY KEY,
    user_id UUID REFERENCES auth.users(id) ON DELETE CASCADE,
    subscription_id UUID REFERENCES push_subscriptions(id) ON DELETE SET NULL,
    provider VARCHAR(50) NOT NULL,
    title VARCHAR(255) NOT NULL,
    message TEXT NOT NULL,
    percentage DECIMAL(5,2),
    status VARCHAR(20) DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'failed')),
    error_message TEXT,
    sent_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ DEFAULT NOW()
);

CREATE INDEX idx_token_usage_user_id ON token_usage(user_id);
CREATE INDEX idx_token_usage_provider_model ON token_usage(provider, model);
CREATE INDEX idx_token_usage_percentage ON token_usage(percentage DESC);
CREATE INDEX idx_token_usage_updated_at ON token_usage(updated_at DESC);
CREATE UNIQUE INDEX idx_push_subscriptions_endpoint
    ON push_subscriptions ((subscription ->> 'endpoint'), user_id);
CREATE INDEX idx_push_subscriptions_active ON push_subscriptions(is_active) WHERE is_active = true;
CREATE INDEX idx_notification_history_status ON notification_history(status);

CREATE TRIGGER update_token_usage_updated_at BEFORE UPDATE ON token_usage
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
CREATE TRIGGER update_push_subscriptions_updated_at BEFORE UPDATE ON push_subscriptions
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();

ALTER TABLE token_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE token_thresholds ENABLE ROW LEVEL SECURITY;
ALTER TABLE push_subscriptions ENABLE ROW LEVEL SECURITY;
ALTER TABLE notification_history ENABLE ROW LEVEL SECURITY;

CREATE POLICY "Users can view their own token usage" ON token_usage
    FOR SELECT USING (auth.uid() = user_id);
CREATE POLICY "Service role can manage all token usage" ON token_usage
    FOR ALL USING (auth.role() = 'service_role');
CREATE POLICY "Enable read access for all users" ON token_thresholds FOR SELECT USING (true);
CREATE POLICY "Users can manage their own subscriptions" ON push_subscriptions
    FOR ALL USING (auth.uid() = user_id) WITH CHECK (auth.uid() = user_id);
CREATE POLICY "Users can view their own notifications" ON notification_history
    FOR SELECT USING (auth.uid() = user_id);
CREATE POLICY "Service role can insert notifications" ON notification_history
    FOR INSERT TO service_role WITH CHECK (true);

GRANT ALL ON token_usage, token_thresholds, push_subscriptions, notification_history
    TO anon, authenticated, service_role;
GRANT SELECT ON token_usage TO reporting;

CREATE PUBLICATION supabase_realtime FOR TABLE token_usage;
