set -euf
umask 077
LC_ALL=C
export LC_ALL
unset CDPATH

issuer_dir=${RAYTLS_ISSUER_DIR:-/etc/raytls/issuer}
out=${RAYTLS_OUTPUT_DIR:-/etc/ray/tls}
termination_log=${RAYTLS_TERMINATION_LOG:-/dev/termination-log}
hosts=${RAYTLS_HOSTS_FILE:-/etc/hosts}
newline='
'
default_ifs=$IFS
work=
said=
key_made=

say() { printf 'raytls-init: %s\n' "$1" >&2; }

# The kubelet shows at most 4096 bytes of this file; the operator reads at most 512.
terminate_with() { { printf '%.512s' "$1" >"$termination_log"; } 2>/dev/null || :; }

clean_up() {
  if [ -n "$work" ]; then
    rm -rf "$work"
    work=
  fi
}
trap clean_up EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'exit 129' HUP

# For what no waiting mends. Under restartPolicy Never each exit makes KubeRay create another pod, so this one stays
# for ten seconds before it goes; in steps, so that a pod being deleted need not wait for them.
fail() {
  clean_up
  say "$1"
  terminate_with "raytls-init: $1"
  for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 1; done
  exit 1
}

# For what can pass: told once, then tried again.
waiting() {
  if [ "$1" != "$said" ]; then
    said=$1
    say "waiting: $1"
    if [ -n "${2-}" ]; then show "$2"; fi
  fi
}

# The first lines of an openssl error: they name files and reasons, never key bytes.
show() {
  lines=0
  while IFS= read -r line && [ "$lines" -lt 8 ]; do
    lines=$((lines + 1))
    printf 'raytls-init:   %.200s\n' "$line" >&2
  done <"$1"
}

is_hex() {
  case $1 in '' | *[!0-9a-f]*) return 1 ;; esac
  [ "${#1}" -le 64 ]
}

# Twelve digits are enough for the year 9999; no leading zero, since that would mean octal in a sum.
is_number() {
  case $1 in 0) return 0 ;; '' | 0* | *[!0-9]*) return 1 ;; esac
  [ "${#1}" -le 12 ]
}

is_boolean() { [ "$1" = true ] || [ "$1" = false ]; }

is_dns_name() {
  case $1 in '' | .* | *. | *..* | -* | *- | *.-* | *-.* | *[!a-z0-9.-]*) return 1 ;; esac
  [ "${#1}" -le 253 ] || return 1
  rest=$1.
  while [ -n "$rest" ]; do
    label=${rest%%.*}
    rest=${rest#*.}
    [ "${#label}" -le 63 ] || return 1
  done
  # A last label of digits alone would be an address in the clothes of a name.
  case $label in *[!0-9]*) ;; *) return 1 ;; esac
}

are_dns_names() {
  case $1 in ,* | *, | *,,*) return 1 ;; esac
  IFS=,
  # shellcheck disable=SC2086 # split at commas, globbing is off
  set -- $1
  IFS=$default_ifs
  for name in "$@"; do is_dns_name "$name" || return 1; done
}

# The link ..data is followed once: all files read after it are of one version of the Secret, whatever the kubelet
# does meanwhile. If that version is taken away under us, the try fails and the next one follows the link anew.
enter_issuer() {
  missing=
  cd /
  dir=$issuer_dir
  if [ -e "$dir/..data" ]; then dir=$dir/..data; fi
  cd -P "$dir" 2>/dev/null || return 1
  for missing in profile ca.key issuer.crt chain.pem ca.crt; do
    if [ ! -r "$missing" ] || [ ! -s "$missing" ]; then return 1; fi
  done
  missing=
}

# Sets the parameters; the profile is text to be checked line by line, never code. Returns 1 if it is malformed.
read_profile() {
  seen=' '
  not_before='' not_after='' authority='' issuer='' algorithm='' days=''
  head_names='' head_short='' head_until_issuer_end=''
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in *=*) ;; *) return 1 ;; esac
    key=${line%%=*}
    value=${line#*=}
    case $seen in *" $key "*) return 1 ;; esac
    # The revision comes first: what another one means by the following lines is unknown.
    if [ "$seen" = ' ' ]; then
      if [ "$key" != revision ] || ! is_number "$value"; then return 1; fi
      if [ "$value" != 1 ]; then
        fail "the profile of the CA Secret has revision $value and this script reads revision 1: give the init container the scripts of the operator that is installed"
      fi
    fi
    seen="$seen$key "
    case $key in
    revision) ;;
    authority) is_hex "$value" && authority=$value || return 1 ;;
    issuer) is_hex "$value" && issuer=$value || return 1 ;;
    issuerNotBefore) is_number "$value" && not_before=$value || return 1 ;;
    issuerNotAfter) is_number "$value" && not_after=$value || return 1 ;;
    keyAlgorithm)
      case $value in '' | *[!A-Za-z0-9]*) return 1 ;; esac
      if [ "${#value}" -gt 32 ]; then return 1; fi
      algorithm=$value
      ;;
    validityDays)
      is_number "$value" && [ "$value" -ge 1 ] && [ "$value" -le 36500 ] && days=$value || return 1
      ;;
    headDNSNames) are_dns_names "$value" && head_names=$value || return 1 ;;
    headServiceShortName) is_boolean "$value" && head_short=$value || return 1 ;;
    headUntilIssuerEnd) is_boolean "$value" && head_until_issuer_end=$value || return 1 ;;
    caKeyAlgorithm) ;; # for whoever renews the issuer
    *) return 1 ;;
    esac
  done <profile
  for value in "$not_before" "$not_after" "$authority" "$issuer" "$algorithm" "$days" "$head_short" \
    "$head_until_issuer_end"; do
    if [ -z "$value" ]; then return 1; fi
  done
  case $seen in *' headDNSNames '*) ;; *) return 1 ;; esac
}

# The number of the authority is for the log alone, so a Secret without one is used all the same.
read_generation() {
  number=
  if [ -r generation ]; then read -r number <generation || :; fi
  is_number "$number" || number=null
}

set_key_algorithm() {
  key_usage=digitalSignature
  case $algorithm in
  ECDSAP256) newkey='ec -pkeyopt ec_paramgen_curve:P-256' ;;
  ECDSAP384) newkey='ec -pkeyopt ec_paramgen_curve:P-384' ;;
  RSA2048 | RSA3072 | RSA4096)
    newkey=rsa:${algorithm#RSA}
    key_usage=digitalSignature,keyEncipherment
    ;;
  *) fail "the key algorithm $algorithm is not supported: set podCertificate.keyAlgorithm to ECDSAP256, ECDSAP384, RSA2048, RSA3072 or RSA4096" ;;
  esac
}

fail_to_write() { fail "nothing can be written in the directory $out: it must be the volume raytls-certs, with room in it"; }

add_san() {
  case "$newline$sans" in *"= $2$newline"*) return 0 ;; esac
  san_count=$((san_count + 1))
  sans="$sans$1.$san_count = $2$newline"
}

write_config() {
  san_count=0
  sans=
  add_san DNS localhost
  add_san IP 127.0.0.1
  add_san IP ::1
  for ip in $ips; do add_san IP "$ip"; done
  if [ -n "$fqdn" ]; then add_san DNS "$fqdn"; fi
  role_names
  { printf '' >"$work/index" && printf '%s\n' \
    '[req]' 'prompt = no' 'encrypt_key = no' 'default_md = sha256' 'string_mask = utf8only' \
    'distinguished_name = subject' \
    '[subject]' 'O = raytls' "OU = ray-$role" "CN = $host" \
    '[ca]' 'default_ca = issuer' \
    '[issuer]' "database = $work/index" "serial = $work/serial" "new_certs_dir = $work" \
    'unique_subject = no' 'default_md = sha256' 'policy = any' 'x509_extensions = leaf' 'copy_extensions = none' \
    '[any]' 'organizationName = supplied' 'organizationalUnitName = supplied' 'commonName = supplied' \
    '[leaf]' 'basicConstraints = critical,CA:FALSE' "keyUsage = critical,$key_usage" \
    'extendedKeyUsage = serverAuth,clientAuth' 'subjectKeyIdentifier = hash' \
    'authorityKeyIdentifier = keyid:always' 'subjectAltName = @names' \
    '[names]' "$sans" >"$work/openssl.cnf"; } || fail_to_write
}

# The pod's key depends on the algorithm alone, so it is made once, however often signing is tried.
make_key() {
  if [ "$key_made" = "$algorithm" ]; then return 0; fi
  # shellcheck disable=SC2086 # an option list of our own
  openssl req -new -config "$work/openssl.cnf" -newkey $newkey -keyout "$work/tls.key" -out "$work/request" \
    </dev/null >"$work/log" 2>&1 || {
    show "$work/log"
    fail "openssl cannot make an $algorithm key: raytls needs openssl 1.1.1 or newer in the init container's image, and its configuration${shown:+ $shown} must activate providers that are installed and make such keys"
  }
  key_made=$algorithm
}

# Sets the leaf's times: Unix seconds, as openssl takes them, and RFC 3339. Returns 1 while the issuer cannot sign.
set_times() {
  now=$(date -u '+%s %Y-%m-%dT%H:%M:%SZ')
  issued_at=${now#* }
  now=${now%% *}
  is_number "$now" || fail 'the date command of this image does not work'
  if [ "$now" -lt "$not_before" ]; then
    waiting 'the issuer in the CA Secret is not valid yet by the clock of this node'
    return 1
  fi
  # Five minutes are what peers' clocks may differ by, so less than that is no certificate.
  if [ "$((now + 300))" -ge "$not_after" ]; then
    waiting 'the issuer in the CA Secret has expired or is about to, until the operator replaces it'
    return 1
  fi
  start=$((now - 300))
  if [ "$start" -lt "$not_before" ]; then start=$not_before; fi
  end=$((now + days * 86400))
  if [ "$end" -gt "$not_after" ] || role_until_issuer_end; then end=$not_after; fi
  start=$(date -u -d "@$start" +%Y%m%d%H%M%SZ) || start=
  end=$(date -u -d "@$end" '+%Y%m%d%H%M%SZ %Y-%m-%dT%H:%M:%SZ') || end=
  if [ -z "$start" ] || [ -z "$end" ]; then fail 'the date command of this image does not understand -d @SECONDS'; fi
  ends_at=${end#* }
  end=${end%% *}
}

# openssl ca and not openssl x509, which cannot set the start before version 3.4. The issuer's key stays where it is
# mounted: the output directory is what Ray containers see.
sign() {
  serial=$(openssl rand -hex 16) && printf '%s\n' "$serial" >"$work/serial" &&
    openssl ca -batch -notext -config "$work/openssl.cnf" -cert issuer.crt -keyfile ca.key -passin pass: \
      -startdate "$start" -enddate "$end" -in "$work/request" -out "$work/leaf"
}

# What is checked are the files that are published. Ray takes an authority below a brought root as its anchor, so a
# partial chain is complete.
assemble() {
  umask 022
  copied=yes
  cat "$work/leaf" chain.pem >"$work/tls.crt" || copied=
  cat ca.crt >"$work/ca.crt" || copied=
  umask 077
  if [ -z "$copied" ]; then return 1; fi
  openssl verify -x509_strict -partial_chain -purpose sslserver -CAfile "$work/ca.crt" -untrusted "$work/tls.crt" \
    "$work/tls.crt" || return 1
  public=$(openssl x509 -in "$work/tls.crt" -noout -pubkey) || return 1
  if [ "$public" != "$(openssl pkey -in "$work/tls.key" -pubout)" ]; then
    printf '%s\n' 'the key does not match the certificate'
    return 1
  fi
}

attempt() {
  if ! enter_issuer; then
    waiting "the CA Secret is missing or incomplete (no ${missing:-such directory})"
    return 1
  fi
  if ! read_profile; then
    waiting 'the profile in the CA Secret is malformed, until the operator writes it anew'
    return 1
  fi
  set_key_algorithm
  if ! find_ips; then
    waiting 'this pod has no IP address yet'
    return 1
  fi
  find_fqdn
  read_generation
  set_times || return 1
  write_config
  make_key
  if ! sign </dev/null >"$work/log" 2>&1; then
    waiting 'the issuer in the CA Secret does not sign' "$work/log"
    return 1
  fi
  if ! assemble </dev/null >"$work/log" 2>&1; then
    waiting 'the new certificate is refused by the trust bundle in the CA Secret' "$work/log"
    return 1
  fi
}

# The one line on standard output. Its keys are those of the controller's lines about issuers and authorities.
log_issued() {
  cluster=${RAYTLS_NAMESPACE-}/${RAYTLS_CLUSTER-}
  pod=${RAYTLS_POD-}
  case $cluster$pod in *[!A-Za-z0-9._/-]*) cluster='' pod='' ;; esac
  printf '{"level":"info","ts":"%s","msg":"Issued certificate","cluster":"%s","pod":"%s","serial":"%s","issuer":"%s","authority":"%s","generation":%s,"notAfter":"%s"}\n' \
    "$issued_at" "$cluster" "$pod" "$serial" "$issuer" "$authority" "$number" "$ends_at"
}

main() {
  # KubeRay builds this pod from the head's; nothing in it speaks Ray, and what its cluster had may be gone.
  if [ "${RAYTLS_NODE_TYPE-}" = redis-cleanup ]; then exit 0; fi
  command -v openssl >/dev/null 2>&1 ||
    fail 'this image has no openssl: use an image that has it, or set issuance.initContainer.image'
  role_check
  find_host_name
  case $issuer_dir in /*) ;; *) issuer_dir=$PWD/$issuer_dir ;; esac
  case $out in /*) ;; *) out=$PWD/$out ;; esac
  # One name, so that what a killed run left behind is found and removed.
  if [ -e "$out/.raytls" ]; then rm -rf "$out/.raytls" 2>/dev/null || :; fi
  mkdir "$out/.raytls" 2>/dev/null || fail "the directory $out is not writable for the user of the init container: it must be the volume raytls-certs"
  work=$out/.raytls
  # Only this trust bundle counts, not what the image brings.
  SSL_CERT_DIR=$work/none SSL_CERT_FILE=$work/none TMPDIR=$work
  export SSL_CERT_DIR SSL_CERT_FILE TMPDIR
  use_image_config
  OPENSSL_CONF=$work/image.cnf
  export OPENSSL_CONF

  until attempt; do sleep 1; done

  # In this order: a certificate without its key is never there.
  mv -f "$work/tls.key" "$work/ca.crt" "$work/tls.crt" "$out/" ||
    fail "the certificate files in $out cannot be replaced: it must be the volume raytls-certs"
  clean_up
  report="{\"authority\":\"$authority\",\"issuer\":\"$issuer\",\"serial\":\"$serial\",\"notAfter\":\"$ends_at\",\"issuedAt\":\"$issued_at\"}"
  log_issued
  terminate_with "$report$newline"
}

main
exit 0
