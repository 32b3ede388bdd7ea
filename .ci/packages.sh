#!/bin/bash
# Installs the Debian packages that the tests use. Without them tests would be
# skipped and the result would mean less than it says, so missing ones are an
# error for whoever may not install them.
set -eu
packages=(kamailio kamailio-extra-modules sip-tester prometheus strace python3)

missing=()
for p in "${packages[@]}"; do
	if ! dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed; then
		missing+=("$p")
	fi
done
if [ ${#missing[@]} = 0 ]; then
	echo "all there: ${packages[*]}"
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "missing: ${missing[*]}" >&2
	echo "install them (apt-get install ${missing[*]}) or run as root" >&2
	exit 1
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# RUNLEVEL keeps the packages from starting their services.
export RUNLEVEL=1
for attempt in 1 2 3; do
	if apt-get -q update && apt-get -q install -y --no-install-recommends "${missing[@]}"; then
		exit 0
	fi
	echo "attempt $attempt failed" >&2
	sleep $((attempt * 5))
done
exit 1
