"""Animals on four legs, drawn by the renderer of the figures."""

import numpy as np

from nightcrawler.synthetic.render import Camera, Capsule, render
from nightcrawler.synthetic.scene import background

FPS = 15.0
HEIGHT, WIDTH = 240, 320
BODY, FAR_SIDE = (57, 53, 169), (45, 42, 135)


def trotting_dog(num_frames):
    """Frames uint8 `[T, 240, 320, 3]` of a dog that trots past, in normal light."""
    phase = 2 * np.pi * np.arange(num_frames) / FPS
    way = np.linspace(-0.9, 0.9, num_frames)

    def at(x, y, z=0.0):
        parts = np.broadcast_arrays(way + x, np.asarray(y, float), z)
        return np.stack(parts, axis=1).astype(float)

    back = 0.62 + 0.02 * np.sin(2 * phase)
    limbs = [
        Capsule(at(-0.5, back), at(0.5, back), 0.17, BODY),
        Capsule(at(0.5, back), at(0.87, back + 0.33), 0.1, BODY),
        Capsule(at(0.87, back + 0.33), at(1.08, back + 0.26), 0.09, BODY),
        Capsule(at(-0.5, back), at(-0.8, back + 0.25), 0.03, BODY),
    ]
    for x, side, lag in ((0.45, 1, 0), (0.45, -1, np.pi), (-0.45, 1, np.pi), (-0.45, -1, 0)):
        swing = 0.5 * np.sin(phase + lag)
        bent = swing - 0.5 * np.clip(np.cos(phase + lag), 0, 1)
        knee = x + 0.3 * np.sin(swing), back - 0.3 * np.cos(swing)
        foot = knee[0] + 0.3 * np.sin(bent), knee[1] - 0.3 * np.cos(bent)
        color = BODY if side > 0 else FAR_SIDE
        limbs.append(Capsule(at(x, back, 0.09 * side), at(*knee, 0.09 * side), 0.062, color))
        limbs.append(Capsule(at(*knee, 0.09 * side), at(*foot, 0.09 * side), 0.048, color))
    still = np.zeros((num_frames, 2))
    camera = Camera(HEIGHT, WIDTH, 85.0, 0.1, 0.88 * HEIGHT, still, mirrored=False)
    scene = background(np.random.default_rng(4), HEIGHT, WIDTH, camera.ground)
    return render(limbs, scene, camera)
