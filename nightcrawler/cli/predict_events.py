"""Options that tell events of videos and cameras to other programs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nightcrawler.utils.errors import UserError

if TYPE_CHECKING:
    from nightcrawler.predict.events.rules import EventRule
    from nightcrawler.predict.events.tell import Events, Receiver

# Options that say which events there are, and need one that says where they are told.
RULES = ("event_start", "event_end", "event_min_sec", "event_class")


def add_event_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of events."""
    events = parser.add_argument_group(
        "events", "A class that is probable for a while is an event, told as a JSON object."
    )
    events.add_argument(
        "--events",
        action="store_true",
        help="print events, one a line; the table goes to standard error",
    )
    events.add_argument("--webhook", metavar="URL", help="POST each event to this address")
    events.add_argument(
        "--mqtt",
        metavar="URL",
        help="publish events: mqtt://user@host:port/topic, mqtts:// for TLS (extra: live); the "
        "password is read from the variable NIGHTCRAWLER_MQTT_PASSWORD",
    )
    events.add_argument(
        "--event-start", type=float, metavar="P", help="least probability to begin (default 0.6)"
    )
    events.add_argument(
        "--event-end", type=float, metavar="P", help="ends below this probability (default 0.4)"
    )
    events.add_argument(
        "--event-min-sec", type=float, metavar="S", help="shortest event (default 1)"
    )
    events.add_argument(
        "--event-class",
        action="append",
        default=[],
        metavar="CLASS",
        help="tell of this class only, repeatable (default: all)",
    )


def wants_events(arguments: argparse.Namespace) -> bool:
    """Return whether events are told to anyone."""
    return bool(arguments.events) or arguments.webhook is not None or arguments.mqtt is not None


def event_fault(arguments: argparse.Namespace) -> str:
    """Return the first fault in the options of events, empty where there is none."""
    for option in RULES:
        if getattr(arguments, option) not in (None, []) and not wants_events(arguments):
            return f"--{option.replace('_', '-')} needs --events, --webhook or --mqtt"
    if not wants_events(arguments):
        return ""
    if arguments.out:
        return "--events, --webhook and --mqtt do not go with --out"
    from nightcrawler.predict.events.mqtt import check_mqtt_installed, parse_broker
    from nightcrawler.predict.events.webhook import check_webhook

    try:
        _rule(arguments, ())
        if arguments.webhook is not None:
            check_webhook(arguments.webhook)
        if arguments.mqtt is not None:
            parse_broker(arguments.mqtt)
            check_mqtt_installed()
    except (UserError, ValueError) as error:
        return str(error)
    return ""


def _rule(arguments: argparse.Namespace, classes: tuple[int, ...]) -> EventRule:
    """Return when an event begins and ends.

    Raises:
        ValueError: if the values do not fit.
    """
    from nightcrawler.predict.events.rules import EventRule

    given = {
        "start": arguments.event_start,
        "end": arguments.event_end,
        "min_sec": arguments.event_min_sec,
    }
    values = {name: value for name, value in given.items() if value is not None}
    if "start" in values and "end" not in values:
        # A lower start than usual lowers the end with it.
        values["end"] = min(EventRule.end, values["start"])
    return EventRule(**values, classes=classes)


def build_events(
    arguments: argparse.Namespace, class_names: Sequence[str], echo: Callable[[str], None]
) -> Events | None:
    """Build the receivers of events, None where nobody wants them.

    Args:
        arguments: checked options.
        class_names: names of the K classes.
        echo: prints a line to standard output.

    Raises:
        UserError: if there is no such class.
    """
    if not wants_events(arguments):
        return None
    from nightcrawler.predict.events.mqtt import PASSWORD_VARIABLE, Mqtt, has_password, parse_broker
    from nightcrawler.predict.events.tell import Events, Lines
    from nightcrawler.predict.events.webhook import Webhook
    from nightcrawler.utils.lazy_registry import unknown_name

    for name in arguments.event_class:
        if name not in class_names:
            raise unknown_name("class of --event-class", name, class_names)
    classes = tuple(class_names.index(name) for name in arguments.event_class)
    receivers: list[Receiver] = []
    if arguments.webhook:
        receivers.append(Webhook(arguments.webhook))
    if arguments.mqtt:
        if has_password(arguments.mqtt):
            print(
                "warning: a list of processes shows the password in --mqtt: leave it out, and set "
                f"{PASSWORD_VARIABLE}",
                file=sys.stderr,
            )
        receivers.append(Mqtt(parse_broker(arguments.mqtt), class_names))
    # Last: where nobody reads the lines any more, the others have their events all the same.
    if arguments.events:
        receivers.append(Lines(echo))
    return Events(_rule(arguments, classes), class_names, receivers, arguments.reject)
