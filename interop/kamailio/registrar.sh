#!/bin/bash
# The Kamailio registrar of the interop tests, for hands and for package interop.
#
#   registrar.sh run           start it and stay (the process becomes Kamailio)
#   registrar.sh count         how many contacts are registered
#   registrar.sh lookup USER   the contact, Call-ID and CSeq that it holds
#   registrar.sh stats         its counters
#   registrar.sh check         check the configuration
#
# Knobs are environment variables, with their defaults:
#
#   PORT=5060             on 127.0.0.1
#   TRANSPORTS="udp tcp"
#   ALGO=                 MD5 or SHA-256, written into the challenge; empty: MD5
#                         without the algorithm parameter
#   NC=0                  1: nonces are reused and their counts are checked
#   OTN=0                 1: nonces are good for one request
#   NONCE_EXPIRE=300      seconds
#   MIN_EXPIRES=10        seconds; 423 below
#   MAX_EXPIRES=7200      seconds
#   AUTHINFO=0            1: Authentication-Info in the 200
#   FAULT_USERS=0         1: see registrar.cfg
#   CALLS=0               1: a proxy for calls as well, see registrar.cfg
#   CALL_DIALOGS=0        1: which challenges inside dialogs, too
#   CALLEE=127.0.0.1:5080 where calls to numbers go
#   WORKERS=2
#   RUN_DIR=              of this instance; empty: /tmp/muster-registrar.PORT
#   KAMAILIO=kamailio     KAMCMD=kamcmd
set -eu

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin
: "${PORT:=5060}" "${TRANSPORTS:=udp tcp}" "${ALGO:=}" "${NC:=0}" "${OTN:=0}"
: "${NONCE_EXPIRE:=300}" "${MIN_EXPIRES:=10}" "${MAX_EXPIRES:=7200}"
: "${AUTHINFO:=0}" "${FAULT_USERS:=0}" "${WORKERS:=2}"
: "${CALLS:=0}" "${CALL_DIALOGS:=0}" "${CALLEE:=127.0.0.1:5080}"
: "${RUN_DIR:=/tmp/muster-registrar.$PORT}" "${KAMAILIO:=kamailio}" "${KAMCMD:=kamcmd}"
control=unix:$RUN_DIR/control

arguments() {
	args=(-f "$here/registrar.cfg" -m 128 -M 16 -b 4194304 -Y "$RUN_DIR" -w "$RUN_DIR" -P "$RUN_DIR/pid"
		-A "CONTROL=\"$control\"" -A "WORKERS=$WORKERS" -A "NONCE_EXPIRE=$NONCE_EXPIRE"
		-A "MIN_EXPIRES=$MIN_EXPIRES" -A "MAX_EXPIRES=$MAX_EXPIRES")
	local t
	for t in $TRANSPORTS; do
		args+=(-l "$t:127.0.0.1:$PORT")
		if [ "$t" = tcp ]; then args+=(-A WITH_TCP); fi
	done
	if [ -n "$ALGO" ]; then args+=(-A "ALGORITHM=\"$ALGO\""); fi
	if [ "$NC" = 1 ]; then args+=(-A WITH_NC); fi
	if [ "$OTN" = 1 ]; then args+=(-A WITH_OTN); fi
	if [ "$AUTHINFO" = 1 ]; then args+=(-A WITH_AUTHINFO); fi
	if [ "$FAULT_USERS" = 1 ]; then args+=(-A WITH_FAULTS); fi
	if [ "$CALLS" = 1 ]; then args+=(-A WITH_CALLS -A "CALLEE=\"sip:$CALLEE\""); fi
	if [ "$CALL_DIALOGS" = 1 ]; then args+=(-A WITH_CALL_DIALOGS); fi
}

case ${1:-} in
run)
	mkdir -p "$RUN_DIR"
	rm -f "$RUN_DIR/control"
	arguments
	# -DD: children, but no daemon, so that the caller owns the process
	exec "$KAMAILIO" -DD -E "${args[@]}"
	;;
check)
	mkdir -p "$RUN_DIR"
	arguments
	exec "$KAMAILIO" -c "${args[@]}"
	;;
ready) exec "$KAMCMD" -s "$control" core.version ;;
count) "$KAMCMD" -s "$control" stats.get_statistics usrloc: | sed -n 's/^usrloc:location_contacts = //p' ;;
lookup) exec "$KAMCMD" -s "$control" ul.lookup location "$2" ;;
stats) exec "$KAMCMD" -s "$control" stats.get_statistics script: usrloc: registrar: ;;
*)
	awk 'NR > 1 && /^#/ {sub(/^# ?/, ""); print; next} NR > 1 {exit}' "${BASH_SOURCE[0]}"
	exit 2
	;;
esac
