#!/usr/bin/env bash
# Runs a program beside an adbd and an adb server of its own, in a network of its own.
#
#     unshare --net --map-root-user with_adbd.sh FOLDER SERIAL PROGRAM...
#
# FOLDER is what install_adbd.sh made; SERIAL is 127.0.0.1:PORT. Writes adbd.pid in the current
# folder.
set -euo pipefail
folder=$1 serial=$2
shift 2
ip link set lo up
export ANDROID_ADB_SERVER_PORT=5038 ADBD_PORT=${serial#*:}
"$folder/adbd" > adbd.log 2>&1 &
echo $! > adbd.pid
trap 'adb kill-server || true; kill -9 "$(cat adbd.pid)" || true' EXIT
for _ in {1..50}; do
    adb connect "$serial" 2>&1 | grep -q '^connected' && break
    sleep 0.2
done
adb -s "$serial" wait-for-device
"$@"
