set -eu
LC_ALL=C; export LC_ALL
trap 'exit 143' TERM
trap 'exit 130' INT
say() { printf 'raytls-init: %s\n' "$1" >&2; }
# A redis-cleanup pod outlives what its cluster had, this script's ConfigMap too: it needs no certificate.
if [ "${RAYTLS_NODE_TYPE-}" = redis-cleanup ]; then exit 0; fi
if command -v sha256sum >/dev/null 2>&1; then
  digest() { sha256sum; }
elif command -v openssl >/dev/null 2>&1; then
  digest() { openssl dgst -sha256 -r; }
else
  why='this image has neither openssl nor sha256sum: use an image that has openssl, or set issuance.initContainer.image'
  say "$why"
  { printf 'raytls-init: %s' "$why" >"${RAYTLS_TERMINATION_LOG:-/dev/termination-log}"; } 2>/dev/null || :
  # Under restartPolicy Never each exit makes KubeRay create another pod: not more often than this.
  for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 1; done
  exit 1
fi
said=
while :; do
  # Read once; what is checked and what runs is this variable, so a file that changes in between is harmless.
  if text=$(cat "$1" 2>/dev/null); then
    sum=$(printf '%s\n' "$text" | digest) || sum=
    if [ "${sum%% *}" = "$2" ]; then break; fi
    why="waiting: $1 is not the script that this pod was made for"
  else
    why="waiting: $1 is not there yet"
  fi
  if [ "$why" != "$said" ]; then said=$why; say "$why"; fi
  sleep 1
done
eval "$text"
