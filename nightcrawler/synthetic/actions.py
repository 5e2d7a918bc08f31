"""The eleven actions as joint angles over time, with random speed, phase, amplitude and side.

Each action is a function of a generator and the times of the frames, `[T]` in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from nightcrawler.synthetic.skeleton import Pose

# Rate of the action's own time.
SPEEDS = (0.65, 1.5)
# Seconds that are waited before and after an action, for the share of motions that wait.
WAITS = (0.2, 1.2)
WAITING_SHARE = 0.4
# Flight of a jump, in shares of its period.
FLIGHT_START = 0.35
FLIGHT_END = 0.75
# Phases of the left and the right leg of a gait.
OPPOSITE = np.array([0.0, np.pi])


@dataclass(frozen=True)
class Prop:
    """Object that an action needs, drawn by `props.prop_shapes`.

    Attributes:
        kind: `cup`, `bottle`, `table`, `box`, `cart` or `chair`.
        hand: hand that holds it (0 left, 1 right).
        tilt: angle from upright, in radians, `[T]`.
        held: frames in which the hand holds it, bool `[T]`. Before them it lies where it is first
            taken.
    """

    kind: str
    hand: int = 0
    tilt: np.ndarray = field(default_factory=lambda: np.zeros(0))
    held: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))


@dataclass(frozen=True)
class Motion:
    """Movement of a figure.

    Attributes:
        pose: joint angles of T frames.
        props: objects that it uses.
    """

    pose: Pose
    props: tuple[Prop, ...] = ()


Action = Callable[[np.random.Generator, np.ndarray], Motion]


def _deg(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw an angle between two limits in degrees, and return it in radians."""
    return float(np.radians(rng.uniform(low, high)))


def ease(time: np.ndarray, start: float, duration: float) -> np.ndarray:
    """Return a smooth step (3 s^2 - 2 s^3) from 0 to 1.

    Args:
        time: `[T]`, in seconds.
        start: end of the zeros.
        duration: time of the step.

    Returns:
        `[T]` in [0, 1].
    """
    share = np.clip((time - start) / duration, 0.0, 1.0)
    return share * share * (3 - 2 * share)


def action_time(rng: np.random.Generator, num_frames: int, fps: float) -> np.ndarray:
    """Return the time within the action at every frame, which stands still while people wait.

    Args:
        rng: generator of speed and waits.
        num_frames: T.
        fps: frames per second.

    Returns:
        `[T]` in seconds, from 0.
    """
    seconds = np.arange(num_frames) / fps
    rate = np.full(num_frames, rng.uniform(*SPEEDS))
    if rng.random() < WAITING_SHARE:
        rate = rate * ease(seconds, rng.uniform(*WAITS), 0.3)
    if rng.random() < WAITING_SHARE:
        rate = rate * (1 - ease(seconds, seconds[-1] - rng.uniform(*WAITS), 0.3))
    return np.concatenate([[0.0], np.cumsum(rate[1:])]) / fps


def _idle(rng: np.random.Generator, time: np.ndarray, planted: bool = True) -> Pose:
    """Return a standing pose with a little sway."""
    pose = Pose(len(time), planted)
    sway = np.sin(2 * np.pi * rng.uniform(0.2, 0.5) * time + rng.uniform(0, 6.3))
    pose.lean += _deg(rng, 0, 2.5) * sway + _deg(rng, -2, 4)
    pose.roll += _deg(rng, 0, 2.5) * np.roll(sway, len(time) // 3)
    pose.shoulder += _deg(rng, -5, 10) + _deg(rng, 0, 3) * sway[:, None]
    pose.side += _deg(rng, 4, 14)
    pose.elbow += _deg(rng, 5, 25)
    return pose


def _step(pose: Pose, phase: np.ndarray, hip: float, knee: float) -> None:
    """Add the legs of a gait at `phase` `[T]`: a knee flexes while its leg swings forwards."""
    both = phase[:, None] + OPPOSITE
    pose.hip += hip * np.sin(both) + 0.1 * hip
    pose.knee += np.radians(6) + knee * np.clip(np.cos(both + 0.35), 0.0, 1.0)


def _gait(
    rng: np.random.Generator, time: np.ndarray, hertz: float, hip: float, knee: float, arm: float
) -> Pose:
    """Return a gait: legs, arms opposite to them, and the distance that such steps cover.

    Args:
        rng: generator of the draws.
        time: `[T]`, in seconds.
        hertz: strides per second.
        hip: amplitude of the hips, in radians.
        knee: amplitude of the knees, in radians.
        arm: amplitude of the arms, in radians.
    """
    pose = _idle(rng, time, planted=False)
    phase = 2 * np.pi * hertz * time + rng.uniform(0, 2 * np.pi)
    _step(pose, phase, hip, knee)
    pose.shoulder -= arm * np.sin(phase[:, None] + OPPOSITE)
    # A stride is four times the distance between hip and foot; 0.48 is the length of a leg.
    pose.travel += 4 * 0.48 * np.sin(hip) * hertz * time
    pose.travel -= pose.travel.mean()
    return pose


def walk(rng: np.random.Generator, time: np.ndarray) -> Motion:
    """Walk: 0.75 to 1.15 strides per second with swinging arms."""
    hertz = rng.uniform(0.75, 1.15)
    pose = _gait(rng, time, hertz, _deg(rng, 20, 30), _deg(rng, 30, 50), _deg(rng, 12, 28))
    return Motion(pose)


def run(rng: np.random.Generator, time: np.ndarray) -> Motion:
    """Run: 1.3 to 1.9 strides per second with high knees, bent arms, a lean and flight."""
    hertz = rng.uniform(1.3, 1.9)
    pose = _gait(rng, time, hertz, _deg(rng, 34, 50), _deg(rng, 75, 110), _deg(rng, 25, 50))
    pose.elbow += _deg(rng, 60, 100)
    pose.lean += _deg(rng, 8, 20)
    pose.hop += rng.uniform(0.02, 0.05) * np.abs(np.sin(2 * np.pi * hertz * time))
    return Motion(pose)


def sit(rng: np.random.Generator, time: np.ndarray) -> Motion:
    """Sit down on a chair, leaning forwards on the way."""
    duration = rng.uniform(0.7, 1.3)
    seated = ease(time, rng.uniform(0.15, max(0.2, time[-1] - duration - 0.3)), duration)
    pose = _idle(rng, time)
    pose.hip += (_deg(rng, 78, 98) * seated)[:, None]
    pose.knee += (_deg(rng, 78, 98) * seated)[:, None]
    # 4 s (1 - s) is 1 half way and 0 at both ends.
    pose.lean += _deg(rng, 18, 40) * 4 * seated * (1 - seated)
    pose.shoulder += (_deg(rng, 10, 40) * seated)[:, None]
    pose.elbow += (_deg(rng, 0, 50) * seated)[:, None]
    return Motion(pose, (Prop("chair"),))


def stand(rng: np.random.Generator, time: np.ndarray) -> Motion:
    """Stand up: `sit` backwards in time."""
    motion = sit(rng, time)
    return Motion(motion.pose.reversed(), motion.props)


def jump(rng: np.random.Generator, time: np.ndarray) -> Motion:
    """Jump one to three times from a crouch, arms swinging up."""
    period = rng.uniform(0.7, 1.05)
    count = int(rng.integers(1, 4))
    start = rng.uniform(0.0, max(0.05, time[-1] - period * count))
    # Position within the period of the current jump, 0 to 1.
    share = np.clip((time - start) / period, 0, count - 1e-6) % 1.0
    active = (time >= start) & (time < start + period * count)
    flight = np.clip((share - FLIGHT_START) / (FLIGHT_END - FLIGHT_START), 0, 1)
    # Deep before the flight, and less deep at the landing.
    crouch_before = np.sin(np.pi * np.clip(share / FLIGHT_START, 0, 1))
    crouch_after = 0.7 * np.sin(np.pi * ease(share, FLIGHT_END, 0.25))
    crouch = active * (crouch_before + crouch_after)
    pose = _idle(rng, time)
    pose.hop += active * rng.uniform(0.14, 0.34) * 4 * flight * (1 - flight)
    bend = _deg(rng, 35, 60)
    pose.hip += (bend * crouch)[:, None]
    pose.knee += (1.6 * bend * crouch)[:, None]
    pose.lean += _deg(rng, 8, 25) * crouch
    raised = active * np.sin(np.pi * np.clip((share - 0.25) / 0.6, 0, 1))
    reach = _deg(rng, 10, 150)
    pose.shoulder += (reach * raised - _deg(rng, 10, 40) * crouch)[:, None]
    return Motion(pose)


def pick(rng: np.random.Generator, time: np.ndarray) -> Motion:
    """Bend down, take a box from the ground, rise with it."""
    down = rng.uniform(0.6, 0.95)
    hold = rng.uniform(0.1, 0.35)
    up = rng.uniform(0.6, 0.95)
    start = rng.uniform(0.1, max(0.15, time[-1] - down - hold - up))
    bent = ease(time, start, down) - ease(time, start + down + hold, up)
    hand = int(rng.integers(2))
    pose = _idle(rng, time)
    knee = _deg(rng, 10, 75)
    pose.lean += _deg(rng, 70, 100) * bent
    pose.knee += (knee * bent)[:, None]
    pose.hip += (0.75 * knee * bent)[:, None]
    pose.shoulder[:, hand] += _deg(rng, 5, 30) * bent
    pose.elbow[:, hand] *= 1 - bent
    held = time >= start + down + 0.5 * hold
    lifted = ease(time, start + down + hold, up)
    pose.shoulder[:, hand] += _deg(rng, 10, 35) * lifted
    pose.elbow[:, hand] += _deg(rng, 20, 80) * lifted
    return Motion(pose, (Prop("box", hand, held=held),))


def drink(rng: np.random.Generator, time: np.ndarray) -> Motion:
    """Lift a cup to the mouth, lean the head back, and usually lower it again."""
    rise = rng.uniform(0.5, 0.9)
    fall = rng.uniform(0.5, 0.9)
    hold = rng.uniform(0.5, 1.0)
    start = rng.uniform(0.0, max(0.05, time[-1] - rise - hold - fall))
    raised = ease(time, start, rise) - ease(time, start + rise + hold, fall)
    sip = ease(time, start + 0.8 * rise, 0.3) - ease(time, start + rise + hold, 0.3)
    hand = int(rng.integers(2))
    pose = _idle(rng, time)
    low = _deg(rng, 40, 80)
    pose.elbow[:, hand] = low + (_deg(rng, 136, 148) - low) * raised
    pose.shoulder[:, hand] += _deg(rng, 42, 58) * raised
    pose.side[:, hand] += _deg(rng, 0, 12) * raised
    pose.swing[:, hand] -= _deg(rng, 24, 34) * raised
    pose.head += _deg(rng, 8, 25) * sip
    return Motion(pose, (Prop("cup", hand, tilt=_deg(rng, 50, 85) * sip),))


def pour(rng: np.random.Generator, time: np.ndarray) -> Motion:
    """Pour from a bottle into a cup on a table."""
    hand = int(rng.integers(2))
    duration = rng.uniform(0.5, 0.9)
    start = rng.uniform(0.1, 0.7)
    end = max(time[-1] - rng.uniform(0.0, 0.8), start + duration)
    tilted = ease(time, start, duration) - ease(time, end, 0.5)
    pose = _idle(rng, time)
    pose.shoulder[:, hand] = _deg(rng, 20, 45) + _deg(rng, 5, 20) * tilted
    pose.elbow[:, hand] = _deg(rng, 45, 75)
    pose.side[:, hand] += _deg(rng, 2, 15) * tilted
    pose.lean += _deg(rng, 0, 12) * tilted
    pose.head -= _deg(rng, 5, 20)
    tilt = _deg(rng, 95, 130) * tilted
    return Motion(pose, (Prop("table", hand, tilt=tilt), Prop("bottle", hand, tilt=tilt)))


def push(rng: np.random.Generator, time: np.ndarray) -> Motion:
    """Push with both arms against a cart, or nothing visible, with slow steps and a lean."""
    hertz = rng.uniform(0.4, 0.7)
    pose = _gait(rng, time, hertz, _deg(rng, 12, 20), _deg(rng, 15, 30), 0.0)
    thrust = 0.5 + 0.5 * np.sin(2 * np.pi * hertz * time + rng.uniform(0, 6.3))
    pose.shoulder[:] = _deg(rng, 65, 90)
    pose.elbow[:] = (_deg(rng, 10, 45) * (1 - thrust))[:, None]
    pose.lean += _deg(rng, 10, 30)
    # Some push nothing that is visible: the cart alone does not tell the class.
    if rng.random() < 0.85:
        return Motion(pose, (Prop("cart"),))
    return Motion(pose)


def turn(rng: np.random.Generator, time: np.ndarray) -> Motion:
    """Turn around by 110 to 360 degrees with small steps."""
    duration = rng.uniform(0.8, 1.7)
    start = rng.uniform(0.1, max(0.15, time[-1] - duration))
    turned = ease(time, start, duration)
    pose = _idle(rng, time, planted=False)
    pose.yaw += _deg(rng, 110, 360) * turned * rng.choice([-1.0, 1.0])
    moving = 4 * turned * (1 - turned)
    stepping = Pose(len(time))
    _step(stepping, 2 * np.pi * rng.uniform(1.0, 1.6) * time, _deg(rng, 8, 16), _deg(rng, 20, 40))
    pose.hip += stepping.hip * moving[:, None]
    pose.knee += stepping.knee * moving[:, None]
    return Motion(pose)


def wave(rng: np.random.Generator, time: np.ndarray) -> Motion:
    """Wave: an arm is raised and its forearm swings from side to side."""
    hand = int(rng.integers(2))
    raised = ease(time, rng.uniform(-0.6, 0.3), rng.uniform(0.3, 0.6))
    pose = _idle(rng, time)
    upper = _deg(rng, 75, 125)
    sweep = np.sin(2 * np.pi * rng.uniform(0.9, 2.0) * time + rng.uniform(0, 6.3))
    pose.side[:, hand] += (upper - pose.side[:, hand]) * raised
    pose.elbow[:, hand] *= 1 - raised
    pose.shoulder[:, hand] *= 1 - raised
    pose.swing[:, hand] += raised * (np.radians(175) - upper + _deg(rng, 28, 55) * sweep)
    return Motion(pose)


# Class name to action, in index order of the classes.
ACTIONS: dict[str, Action] = {
    "Drink": drink,
    "Jump": jump,
    "Pick": pick,
    "Pour": pour,
    "Push": push,
    "Run": run,
    "Sit": sit,
    "Stand": stand,
    "Turn": turn,
    "Walk": walk,
    "Wave": wave,
}
