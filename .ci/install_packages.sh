#!/usr/bin/env bash
# Install the Debian packages that some tests need. Tests whose package is absent are skipped with a
# reason, so a machine where this is not possible still runs all others.
set -euo pipefail

# FFmpeg's libraries for torchcodec's parity tests, Chromium for those of the page, a broker for
# those of events, Slurm for those of jobs.
packages=(ffmpeg chromium mosquitto munge slurmctld slurmd slurm-client)

missing=()
for package in "${packages[@]}"; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "not root, or no apt-get: tests that need ${missing[*]} are skipped"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}"; } >/dev/null; then
    echo "could not install ${missing[*]}: tests that need them are skipped"
fi
