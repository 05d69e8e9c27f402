#!/bin/sh
# Builds the BoringSSL checker and prints its path, for RAYTLS_BORINGSSL_VERIFY:
#
#   export RAYTLS_BORINGSSL_VERIFY="$(hack/boringssl/build.sh)"
#
# Takes the output path as its only argument (default: bin/boringssl-verify). Needs a C compiler and Debian's or
# Ubuntu's android-libboringssl-dev; without them it says so and exits 3, so that a caller can go on without.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
output=${1:-$here/../../bin/boringssl-verify}
headers=${BORINGSSL_INCLUDE:-/usr/include/android}

if ! command -v "${CC:-cc}" >/dev/null 2>&1; then
  echo "boringssl: no C compiler (${CC:-cc}); install gcc" >&2
  exit 3
fi
if [ ! -e "$headers/openssl/is_boringssl.h" ]; then
  echo "boringssl: no headers in $headers; install android-libboringssl-dev" >&2
  exit 3
fi
libraries=${BORINGSSL_LIB:-$(dirname "$(find /usr/lib -path '*/android/libcrypto.so' 2>/dev/null | head -n 1)")}

mkdir -p "$(dirname "$output")"
"${CC:-cc}" -std=c11 -O1 -Wall -Wextra -Werror -isystem "$headers" -o "$output" "$here/verify.c" \
  -L"$libraries" -Wl,-rpath,"$libraries" -lcrypto
echo "$(cd "$(dirname "$output")" && pwd)/$(basename "$output")"
