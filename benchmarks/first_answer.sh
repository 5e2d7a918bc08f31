#!/usr/bin/env bash
# Time to the first answer: from `git clone` of this checkout, and from its wheel, to a table of classes on
# docs/night.mp4, each in a fresh environment. Prints seconds of each step.
# `bash benchmarks/first_answer.sh [clone|wheel]`; both without an argument. PYTHON picks the interpreter, EXTRA the extra
# ("pose"; empty for none), PIP_INDEX_URL and the cache of pip count as the machine has them (PIP_NO_CACHE_DIR=1: none).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
extra=${EXTRA-pose}
wanted=${1:-both}
[[ $wanted =~ ^(clone|wheel|both)$ ]] || { echo "error: $wanted: expected clone, wheel or nothing" >&2; exit 2; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
# The environment of this shell must not lend its packages.
unset PYTHONPATH VIRTUAL_ENV

step() { # NAME COMMAND...: run it, and print how long it took.
    local name=$1 start end
    shift
    start=$(date +%s.%N)
    "$@" >"$place/log" 2>&1 || { tail -n 20 "$place/log"; echo "error: $name failed" >&2; exit 1; }
    end=$(date +%s.%N)
    awk -v name="$name" -v a="$start" -v b="$end" 'BEGIN { printf "  %-44s %6.1f s\n", name, b - a }'
}

answer() { # ENVIRONMENT CLIP: predict, and show the line of the clip.
    step "nightcrawler predict $(basename "$2")" "$1/bin/nightcrawler" predict "$2"
    grep -a "$(basename "$2")" "$place/log" | tail -n 1 | sed 's/^/  -> /'
}

total() { # START: print the sum.
    awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN { printf "  %-44s %6.1f s\n", "together", b - a }'
}

if [ "$wanted" != wheel ]; then
    echo "from a clone:"
    begun=$(date +%s.%N)
    step "git clone" git clone --quiet "file://$root" "$place/clone"
    step "python -m venv" "$python" -m venv "$place/clone/.venv"
    step "pip install .${extra:+[$extra]}" "$place/clone/.venv/bin/python" -m pip install --quiet \
        "$place/clone${extra:+[$extra]}"
    answer "$place/clone/.venv" "$place/clone/docs/night.mp4"
    total "$begun"
fi
if [ "$wanted" != clone ]; then
    # The wheel is what an index would hold: building it does not count.
    "$python" -m pip wheel --quiet --no-deps --wheel-dir "$place/wheel" "$root" >"$place/log" 2>&1 ||
        { tail -n 20 "$place/log"; echo "error: the wheel cannot be built" >&2; exit 1; }
    wheel=$(ls "$place"/wheel/*.whl)
    echo "from a wheel:"
    begun=$(date +%s.%N)
    step "python -m venv" "$python" -m venv "$place/venv"
    step "pip install $(basename "$wheel" .whl)${extra:+[$extra]}" "$place/venv/bin/python" -m pip install --quiet \
        "$wheel${extra:+[$extra]}"
    answer "$place/venv" "$root/docs/night.mp4"
    total "$begun"
fi
