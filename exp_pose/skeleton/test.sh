#!/usr/bin/env bash
# Test this experiment, from any folder. Extra arguments: --overlay FILE, and KEY VALUE pairs for the configuration.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec bash "$here/../../tools/launch.sh" test "$here" "$@"
