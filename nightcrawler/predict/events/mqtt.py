"""Publish events to an MQTT broker, which Home Assistant finds by itself."""

from __future__ import annotations

import json
import os
import re
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nightcrawler import __version__
from nightcrawler.predict.events.rules import STARTED, Event
from nightcrawler.predict.events.tell import to_json
from nightcrawler.utils.errors import UserError, missing_extra
from nightcrawler.utils.logging import get_logger

if TYPE_CHECKING:
    from paho.mqtt.client import Client

logger = get_logger(__name__)

# The command line of a process is read by all users of a machine, its environment is not.
PASSWORD_VARIABLE = "NIGHTCRAWLER_MQTT_PASSWORD"  # noqa: S105 - the name of the variable
PORTS = {"mqtt": 1883, "mqtts": 8883}
# Messages arrive at least once.
QOS = 1
MOST_WAITING = 1000
KEEPALIVE_SEC = 30
RECONNECT_SEC = (1, 30)
CLOSE_SEC = 10.0
POLL_SEC = 0.02
# Topics below the given one.
EVENT = "event"
STATE = "state"
AVAILABILITY = "availability"
ONLINE = "online"
OFFLINE = "offline"
NO_EVENT = "none"
# Home Assistant looks for descriptions here.
DISCOVERY = "homeassistant"
# Of one topic, in bytes, with room for the topics below it.
MOST_TOPIC_BYTES = 60000


@dataclass(frozen=True)
class Broker:
    """A broker and a topic.

    Attributes:
        host: name or address.
        port: port.
        topic: topic above all topics of the events.
        user: empty for none.
        password: empty for none.
        is_encrypted: speak TLS.
    """

    host: str
    port: int
    topic: str
    user: str = ""
    password: str = ""
    is_encrypted: bool = False

    def __repr__(self) -> str:
        """Return host and port: the rest may be a secret."""
        return f"mqtt {self.host}:{self.port}"


def parse_broker(address: str) -> Broker:
    """Return the parts of `mqtt://user:password@host:port/topic`, `mqtts://` for TLS.

    The password of a user without one is that of the environment variable `PASSWORD_VARIABLE`.

    Raises:
        UserError: if it is none. The message does not hold it, as it may hold a password.
    """
    try:
        parts = urllib.parse.urlsplit(address)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        raise _fault("the host or port is none") from None
    topic = urllib.parse.unquote(parts.path).strip("/")
    if parts.scheme not in PORTS or not parts.hostname:
        raise _fault("it is no such address")
    if not topic or re.search(r"[+#\x00]", topic) or len(topic.encode()) > MOST_TOPIC_BYTES:
        raise _fault("the topic is missing, too long, or has a + or # in it")
    if parts.query or parts.fragment:
        raise _fault("nothing may follow the topic (write # and ? of a password as %23 and %3F)")
    user = parts.username or ""
    password = parts.password
    if not user and os.environ.get(PASSWORD_VARIABLE):
        raise _fault(
            f"{PASSWORD_VARIABLE} is set, and the address names no user: mqtt://user@host/topic"
        )
    return Broker(
        parts.hostname,
        port,
        topic,
        urllib.parse.unquote(user),
        os.environ.get(PASSWORD_VARIABLE, "")
        if password is None
        else urllib.parse.unquote(password),
        parts.scheme == "mqtts",
    )


def has_password(address: str) -> bool:
    """Return whether an address that `parse_broker` accepts holds a password."""
    return bool(urllib.parse.urlsplit(address).password)


def _fault(cause: str) -> UserError:
    return UserError(f"--mqtt: expected mqtt://host:port/topic: {cause}")


def check_mqtt_installed() -> None:
    """Refuse to go on without the library of MQTT.

    Raises:
        UserError: if the extra is not installed.
    """
    try:
        import paho.mqtt.client  # noqa: F401
    except ImportError:
        raise missing_extra("MQTT", "live") from None


class Mqtt:
    """Receiver that publishes events, from a thread that connects again after a break.

    Args:
        broker: broker and topic.
        class_names: names of the K classes, for Home Assistant.

    Raises:
        UserError: if the extra is not installed.
    """

    def __init__(self, broker: Broker, class_names: Sequence[str]) -> None:
        check_mqtt_installed()
        self._broker = broker
        self._class_names = list(class_names)
        self._topic = broker.topic
        self._is_away = False
        self._num_dropped = 0
        self._ongoing: list[str] = []
        # Numbers of messages with events, and of all that the broker has acknowledged: the library
        # tells of those under a lock, so that no other may be taken.
        self._waiting: set[int] = set()
        self._acknowledged: deque[int] = deque()
        self._is_connected = threading.Event()
        self._client = self._build_client()
        # Not waited for: a broker that is away at the start may come later.
        self._client.connect_async(broker.host, broker.port, KEEPALIVE_SEC)
        self._client.loop_start()

    def _build_client(self) -> Client:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        client = Client(CallbackAPIVersion.VERSION2)
        if self._broker.user:
            client.username_pw_set(self._broker.user, self._broker.password or None)
        if self._broker.is_encrypted:
            client.tls_set()
        client.reconnect_delay_set(*RECONNECT_SEC)
        client.max_queued_messages_set(MOST_WAITING)
        # The broker publishes this where the process dies.
        client.will_set(f"{self._topic}/{AVAILABILITY}", OFFLINE, QOS, retain=True)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = lambda *given: self._acknowledged.append(given[2])
        return client

    def _on_connect(self, client: Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            self._tell(f"refuses the connection ({reason})")
            return
        # Retained: Home Assistant may start later, or lose what it knew.
        for topic, description in self._descriptions().items():
            client.publish(topic, json.dumps(description), QOS, retain=True)
        client.publish(f"{self._topic}/{AVAILABILITY}", ONLINE, QOS, retain=True)
        client.publish(f"{self._topic}/{STATE}", self._state(), QOS, retain=True)
        if self._is_away:
            logger.warning("%s: takes events again", self._broker)
        self._is_away = False
        self._is_connected.set()

    def _on_connect_fail(self, _: Client, __: Any) -> None:
        self._tell("does not answer")

    def _on_disconnect(self, _: Client, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        self._is_connected.clear()
        if reason.is_failure:
            self._tell("is gone")

    def _tell(self, cause: str) -> None:
        """Tell a fault, once until the broker is there again."""
        if not self._is_away:
            self._is_away = True
            logger.warning("%s: %s: it is tried again, and events wait", self._broker, cause)

    def _descriptions(self) -> dict[str, dict[str, Any]]:
        """Return the entities of Home Assistant: topics, each with a description.

        https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
        """
        name = "nightcrawler_" + re.sub(r"[^A-Za-z0-9_-]", "_", self._topic)
        about = {
            "availability_topic": f"{self._topic}/{AVAILABILITY}",
            "device": {
                "identifiers": [name],
                "name": f"nightcrawler {self._topic}",
                "sw_version": __version__,
            },
            "origin": {"name": "nightcrawler", "sw_version": __version__},
        }
        event = {
            **about,
            "name": "Action",
            "unique_id": f"{name}_{EVENT}",
            "state_topic": f"{self._topic}/{EVENT}",
            "event_types": self._class_names,
            # Its events are named by `event_type`, ours by their class.
            "value_template": "{{ dict(value_json, event_type=value_json['class']) | tojson }}",
        }
        state = {
            **about,
            "name": "Action now",
            "unique_id": f"{name}_{STATE}",
            "state_topic": f"{self._topic}/{STATE}",
        }
        return {
            f"{DISCOVERY}/event/{name}/config": event,
            f"{DISCOVERY}/sensor/{name}/config": state,
        }

    def _state(self) -> str:
        """Return the class of the newest event that lasts."""
        return self._ongoing[-1] if self._ongoing else NO_EVENT

    def send(self, event: Event) -> None:
        """Publish an event, or queue it while the broker is away."""
        info = self._client.publish(f"{self._topic}/{EVENT}", to_json(event), QOS)
        if info.rc == _queue_size_error():
            self._num_dropped += 1
            if self._num_dropped == 1:
                logger.warning("%s: too many events wait, new ones are dropped", self._broker)
        else:
            self._waiting.add(info.mid)
            self._num_waiting()
        # Several classes may last at once where `--event-start` is at most a half.
        if event.class_name in self._ongoing:
            self._ongoing.remove(event.class_name)
        if event.state == STARTED:
            self._ongoing.append(event.class_name)
        # Of an older state, nobody wants to know: it is published anew when the broker is back.
        if self._is_connected.is_set():
            self._client.publish(f"{self._topic}/{STATE}", self._state(), QOS, retain=True)

    def close(self) -> None:
        """Wait for the broker's acknowledgements, for a bounded time, and say goodbye."""
        deadline = time.monotonic() + CLOSE_SEC
        while self._num_waiting() and time.monotonic() < deadline:
            time.sleep(POLL_SEC)
        num_lost = self._num_dropped + self._num_waiting()
        if num_lost:
            logger.warning("%s: events that were not delivered: %d", self._broker, num_lost)
        if self._is_connected.is_set():
            topic = f"{self._topic}/{AVAILABILITY}"
            self._waiting.add(self._client.publish(topic, OFFLINE, QOS, retain=True).mid)
        while self._num_waiting() and time.monotonic() < deadline:
            time.sleep(POLL_SEC)
        self._client.disconnect()
        self._client.loop_stop()

    def _num_waiting(self) -> int:
        """Return the number of events that the broker has not acknowledged."""
        while self._acknowledged:
            self._waiting.discard(self._acknowledged.popleft())
        return len(self._waiting)


def _queue_size_error() -> Any:
    from paho.mqtt.enums import MQTTErrorCode

    return MQTTErrorCode.MQTT_ERR_QUEUE_SIZE
