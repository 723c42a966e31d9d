"""A program that sends an event with the SDK of CloudEvents, in each content mode it has.

Runs on the interpreter that has the clients: see tests/clients/test_clients.py.
"""

# mypy: ignore-errors

import sys
from urllib.request import Request, urlopen

from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

url, token = sys.argv[1:]
for event_id, encode in (
    ("1", to_binary_event),
    ("2", to_structured_event),
    ("2", to_binary_event),
):
    event = CloudEvent(
        {
            "id": event_id,
            "source": "//gate way/ä",
            "type": "prompt",
            "subject": 'Jürgen "J" 100%',
            "datacontenttype": "application/json",
        },
        {"model": "gpt-5", "prompt_tokens": 7, "completion_tokens": 2},
    )
    message = encode(event)
    request = Request(url, message.body, {**message.headers, "Authorization": f"Bearer {token}"})
    with urlopen(request, timeout=30) as answer:
        assert answer.status == 200
print("sent")
