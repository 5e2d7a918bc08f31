# An image with the command `nightcrawler`: see docs/containers.md.
#
#   docker build --target cpu --build-arg TORCH_ARGS="..." --tag nightcrawler:cpu .
#   docker build --target cuda --tag nightcrawler:cuda .

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# The wheel, which holds configs and weights: the image needs no checkout.
FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /src
COPY . .
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir build \
    && /opt/build/bin/python -m build --wheel --outdir /wheels

FROM ${PYTHON_IMAGE} AS base
# Libraries of the estimator of poses (extra `pose`).
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libegl1 libgles2 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/nightcrawler/bin:$PATH \
    NIGHTCRAWLER_CACHE=/cache \
    PYTHONUNBUFFERED=1
# Before the wheel: this layer stays when only the code changes. TORCH_ARGS are arguments of pip,
# such as the address of builds without CUDA.
ARG TORCH_ARGS=""
RUN python3 -m venv /opt/nightcrawler \
    && pip install --no-cache-dir ${TORCH_ARGS} torch torchvision
ARG EXTRAS=pose,web,export
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir "$(ls /wheels/*.whl)[${EXTRAS}]" && rm -rf /wheels
# Not root: what it writes belongs to user 1000, or to the one that `--user` names.
RUN useradd --uid 1000 --create-home nightcrawler \
    && mkdir -p /cache /work \
    && chmod 1777 /cache /work
USER 1000
WORKDIR /work
ENTRYPOINT ["nightcrawler"]
CMD ["--help"]

FROM base AS cpu

# torch's own wheels bring CUDA's libraries, so that only the driver comes from outside.
FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
