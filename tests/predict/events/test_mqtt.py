"""MQTT with a real broker: events, its absence and its death, Home Assistant, passwords."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest

from nightcrawler.predict.events import mqtt
from nightcrawler.predict.events.mqtt import Broker, Mqtt, parse_broker
from nightcrawler.predict.events.rules import Event
from nightcrawler.utils.errors import UserError
from tests.waiting import wait_until

SECRET = "s3cr3t/#?"
NAMES = ("Run", "Walk")
MOSQUITTO = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto (apt install mosquitto)")


def event(number: int, state: str = "ended") -> Event:
    return Event(state, "cam", NAMES[number % 2], 0.5, "sure", float(number))


class RealBroker:
    """mosquitto on a free port of this machine, with a password if one is given."""

    def __init__(self, folder: Path, password: str = "") -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        lines = [f"listener {self.port} 127.0.0.1", "log_dest none", "user root"]
        if password:
            users = folder / "users"
            tool = shutil.which("mosquitto_passwd")
            assert tool is not None
            subprocess.run([tool, "-b", "-c", str(users), "me", password], check=True)
            users.chmod(0o644)
            lines += ["allow_anonymous false", f"password_file {users}"]
        else:
            lines.append("allow_anonymous true")
        (folder / "broker.conf").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        assert MOSQUITTO is not None
        command = [MOSQUITTO, "-c", str(self.folder / "broker.conf")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(self.answers)

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def address(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}/home/garden"


class Listener:
    """Another client, which keeps the messages that it gets: (topic, payload, retained)."""

    def __init__(self, port: int, user: str = "", password: str = "") -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.messages: list[tuple[str, str, bool]] = []
        self.client = Client(CallbackAPIVersion.VERSION2)
        if user:
            self.client.username_pw_set(user, password)
        self.is_ready = False
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_subscribe = self._ready
        self.client.on_message = self._keep
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        wait_until(lambda: self.is_ready)

    def _ready(self, *_: Any) -> None:
        self.is_ready = True

    def _keep(self, _: Any, __: Any, message: Any) -> None:
        self.messages.append((message.topic, message.payload.decode(), message.retain))

    def of(self, topic: str) -> list[str]:
        return [payload for name, payload, _ in self.messages if name == f"home/garden/{topic}"]

    def numbers(self) -> list[float]:
        return [json.loads(payload)["start_sec"] for payload in self.of("event")]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RealBroker]:
    found = RealBroker(tmp_path)
    yield found
    found.kill()


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def start(*given: Any) -> Listener:
        made.append(Listener(*given))
        return made[-1]

    yield start
    for one in made:
        one.close()


@needs_broker
def test_events_state_and_goodbye(broker: RealBroker, listen: Callable[..., Listener]) -> None:
    broker.start()
    listener = listen(broker.port)
    receiver = Mqtt(parse_broker(broker.address), NAMES)
    wait_until(lambda: listener.of("availability") == ["online"])
    receiver.send(event(0, "started"))
    receiver.send(event(1, "started"))
    receiver.send(event(1, "ended"))
    receiver.send(event(0, "ended"))
    receiver.close()
    wait_until(lambda: listener.of("availability") == ["online", "offline"])
    assert [json.loads(one) for one in listener.of("event")] == [
        event(number, state).record()
        for number, state in ((0, "started"), (1, "started"), (1, "ended"), (0, "ended"))
    ]
    assert listener.of("state") == ["none", "Run", "Walk", "Run", "none"]
    # Who comes later finds the last state and the descriptions, and no event.
    later = listen(broker.port)
    wait_until(lambda: len(later.messages) == 4)
    assert all(retained for _, _, retained in later.messages)
    assert later.of("availability") == ["offline"]
    assert later.of("event") == []


@needs_broker
def test_home_assistant_finds_it(broker: RealBroker, listen: Callable[..., Listener]) -> None:
    broker.start()
    receiver = Mqtt(parse_broker(broker.address), NAMES)
    listener = listen(broker.port)
    wait_until(lambda: len(listener.messages) == 4)
    receiver.close()
    found = {topic: payload for topic, payload, _ in listener.messages if "config" in topic}
    assert sorted(found) == [
        "homeassistant/event/nightcrawler_home_garden/config",
        "homeassistant/sensor/nightcrawler_home_garden/config",
    ]
    entities = [json.loads(found[topic]) for topic in sorted(found)]
    assert len({one["unique_id"] for one in entities}) == 2
    for entity in entities:
        assert entity["availability_topic"] == "home/garden/availability"
        assert entity["device"]["identifiers"] == ["nightcrawler_home_garden"]
    assert [one["state_topic"] for one in entities] == ["home/garden/event", "home/garden/state"]
    # Home Assistant renders the template, and asks for an `event_type` that it knows.
    template = jinja2.Template(entities[0]["value_template"])
    rendered = json.loads(template.render(value_json=event(1).record()))
    assert rendered == {**event(1).record(), "event_type": "Walk"}
    assert rendered["event_type"] in entities[0]["event_types"]


@needs_broker
def test_a_broker_that_is_killed_and_started_again_gets_every_event(
    broker: RealBroker, listen: Callable[..., Listener], caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Mqtt(parse_broker(broker.address), NAMES)
    receiver.send(event(0))  # nobody is there yet
    wait_until(lambda: bool(caplog.messages))
    broker.start()
    # It listens before the event is there: the client waits a second before it tries again.
    listener = listen(broker.port)
    wait_until(lambda: listener.numbers() == [0])
    broker.kill()
    wait_until(lambda: len(caplog.messages) == 3)
    for number in (1, 2, 3):
        receiver.send(event(number))
    listener.is_ready = False
    broker.start()
    wait_until(lambda: listener.is_ready)
    wait_until(lambda: receiver._num_waiting() == 0)  # the broker has acknowledged them
    receiver.send(event(4))
    wait_until(lambda: 4 in listener.numbers())
    receiver.close()
    where = f"mqtt 127.0.0.1:{broker.port}"
    assert caplog.messages == [
        f"{where}: does not answer: it is tried again, and events wait",
        f"{where}: takes events again",
        f"{where}: is gone: it is tried again, and events wait",
        f"{where}: takes events again",
    ]


@needs_broker
def test_the_broker_says_that_a_process_died(
    broker: RealBroker, listen: Callable[..., Listener]
) -> None:
    broker.start()
    listener = listen(broker.port)
    receiver = Mqtt(parse_broker(broker.address), NAMES)
    wait_until(lambda: listener.of("availability") == ["online"])
    found = receiver._client.socket()
    assert found is not None
    # As the system does to a process that is killed.
    receiver._client._thread_terminate = True
    found.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: listener.of("availability") == ["online", "offline"])


@needs_broker
def test_a_password_of_the_environment_opens(
    tmp_path: Path, listen: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = RealBroker(tmp_path, SECRET)
    broker.start()
    try:
        monkeypatch.setenv(mqtt.PASSWORD_VARIABLE, SECRET)
        listener = listen(broker.port, "me", SECRET)
        receiver = Mqtt(parse_broker(broker.address.replace("mqtt://", "mqtt://me@")), NAMES)
        receiver.send(event(0))
        wait_until(lambda: listener.numbers() == [0])
        receiver.close()
    finally:
        broker.kill()


def test_passwords_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mqtt.PASSWORD_VARIABLE, "p%40/#")
    assert parse_broker("mqtt://me@host/a").password == "p%40/#"
    # The address is nearer.
    assert parse_broker("mqtt://me:other@host/a").password == "other"
    assert mqtt.has_password("mqtt://me:other@host/a")
    assert not mqtt.has_password("mqtt://me@host/a")
    with pytest.raises(UserError, match="the address names no user") as caught:
        parse_broker("mqtt://host/a")
    assert "p%40" not in str(caught.value)


@needs_broker
def test_a_password_opens_and_is_never_printed(
    tmp_path: Path, listen: Callable[..., Listener], caplog: pytest.LogCaptureFixture
) -> None:
    broker = RealBroker(tmp_path, SECRET)
    broker.start()
    try:
        quoted = "s3cr3t%2F%23%3F"
        address = broker.address.replace("mqtt://", f"mqtt://me:{quoted}@")
        listener = listen(broker.port, "me", SECRET)
        receiver = Mqtt(parse_broker(address), NAMES)
        receiver.send(event(0))
        wait_until(lambda: listener.numbers() == [0])
        receiver.close()
        assert caplog.messages == []
        wrong = Mqtt(parse_broker(address.replace(quoted, "wr0ng")), NAMES)
        wait_until(lambda: bool(caplog.messages))
        wrong.close()
        assert "refuses the connection" in caplog.messages[0]
        assert "uthori" in caplog.messages[0]
        assert "wr0ng" not in caplog.text + repr(parse_broker(address))
        assert "s3cr3t" not in caplog.text + repr(parse_broker(address))
    finally:
        broker.kill()


def test_nobody_there_costs_bounded_memory_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("paho.mqtt.client")
    monkeypatch.setattr(mqtt, "MOST_WAITING", 10)
    monkeypatch.setattr(mqtt, "CLOSE_SEC", 0.2)
    receiver = Mqtt(parse_broker(RealBroker(tmp_path).address), NAMES)
    for number in range(50):
        receiver.send(event(number))
    receiver.close()
    assert any("too many events wait, new ones are dropped" in line for line in caplog.messages)
    assert "events that were not delivered: 50" in caplog.text


def test_parts_of_an_address() -> None:
    assert parse_broker("mqtt://host/a/b") == Broker("host", 1883, "a/b")
    assert parse_broker("mqtts://me:p%40s@[::1]/a%20b/") == Broker(
        "::1", 8883, "a b", "me", "p@s", True
    )


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://host/topic",
        "mqtt://host",
        "mqtt:///topic",
        "mqtt://me:s3cr3t@host/",
        "mqtt://me:s3cr3t@host:99999/topic",
        "mqtt://host/a/+",
        "mqtt://host/a%23",
        "mqtt://me:s3cr3t@host/topic#x",
        "mqtt://host/" + "x" * 70000,
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UserError, match="expected mqtt://host:port/topic") as caught:
        parse_broker(address)
    assert "s3cr3t" not in str(caught.value)


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "paho.mqtt.client", None)
    with pytest.raises(UserError, match=r"pip install 'nightcrawler-video\[live\]'"):
        Mqtt(Broker("host", 1, "t"), NAMES)
