# Tools that fill in manifests replace variables in this text, so it has none: $1 is the path of the script, $2 its
# SHA-256, and $3 the pod's type of node. Nor has it a backslash, which some of them remove.
set -eu
LC_ALL=C; export LC_ALL
trap 'exit 143' TERM
trap 'exit 130' INT
say() { echo "raytls-init: $1" >&2; }
# A redis-cleanup pod outlives what its cluster had, this script's ConfigMap too: it needs no certificate.
if [ "$3" = redis-cleanup ]; then exit 0; fi
fail() {
  say "$1"
  { printf %s "raytls-init: $1" >/dev/termination-log; } 2>/dev/null || :
  # Under restartPolicy Never each exit makes KubeRay create another pod: not more often than this.
  for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 1; done
  exit 1
}
if command -v sha256sum >/dev/null 2>&1; then
  digest() { sha256sum; }
elif command -v openssl >/dev/null 2>&1; then
  # The script judges the image's configuration of openssl. One that is broken must not keep it from being read.
  digest() { OPENSSL_CONF=/dev/null openssl dgst -sha256 -r; }
else
  fail 'this image has neither openssl nor sha256sum: use an image that has openssl, or set issuance.initContainer.image'
fi
set -- "$1" "$2" '' ''
while :; do
  # Read once; what is checked and what runs is $3, so a file that changes in between is harmless.
  set -- "$1" "$2" "$(cat "$1" 2>/dev/null)" "$4"
  # printf ends the text with the newline that the shell took from it.
  case "$(printf '%s
' "$3" | digest)" in "$2 "*) break ;; esac
  if [ -r "$1" ]; then
    set -- "$1" "$2" "$4" "waiting: $1 is not the script that this pod was made for"
  else
    set -- "$1" "$2" "$4" "waiting: $1 is not there yet"
  fi
  if [ "$3" != "$4" ]; then say "$4"; fi
  sleep 1
done
eval "$3"
