# What the script learns from the pod and its image.

is_ip() {
  case $1 in
  *[!0-9a-fA-F:.]*) return 1 ;;
  *:*:*) ;;
  *[!0-9.]* | .* | *. | *..* | *.*.*.*.*) return 1 ;;
  *.*.*.*) ;;
  *) return 1 ;;
  esac
}

find_host_name() {
  # shellcheck disable=SC3028 # container runtimes put it in the environment
  host=${HOSTNAME-}
  if [ -z "$host" ] && [ -r /etc/hostname ]; then read -r host </etc/hostname || :; fi
  case $host in '' | *[!A-Za-z0-9.-]*) host=unknown ;; esac
  if [ "${#host}" -gt 64 ]; then host=unknown; fi
}

add_ip() {
  is_ip "$1" || return 1
  case $1 in 0.0.0.0 | :: | 127.* | ::1) return 0 ;; esac
  ips="$ips$1 "
}

# Lines of the hosts file that the kubelet writes about the pod end where a template's hostAliases begin.
is_alias_header() { [ "$1" = '# Entries added by HostAliases.' ]; }

# The pod's addresses as the kubelet says them, or as it wrote them in the pod's hosts file. Returns 1 if there are none.
find_ips() {
  ips=
  IFS=', '
  # shellcheck disable=SC2086 # split at commas, globbing is off
  set -- ${RAYTLS_POD_IPS-}
  IFS=$default_ifs
  for ip in "$@"; do
    add_ip "$ip" || fail 'RAYTLS_POD_IPS is not a list of IP addresses: it must be the pod field status.podIPs'
  done
  if [ -z "$ips" ] && [ -r "$hosts" ]; then
    while read -r ip names; do
      if is_alias_header "$ip $names"; then break; fi
      case " $names " in *[[:space:]]"$host"[[:space:]]*) add_ip "$ip" || : ;; esac
    done <"$hosts"
  fi
  [ -n "$ips" ]
}

# The name that a pod with spec.subdomain has in the cluster's DNS, <host>.<subdomain>.<namespace>.svc.<domain>, as the
# kubelet wrote it into the pod's hosts file. A name of another form, host, namespace or address is not the pod's.
find_fqdn() {
  fqdn=
  namespace=${RAYTLS_NAMESPACE-}
  case $namespace in '' | *[!a-z0-9-]*) return 0 ;; esac
  if [ ! -r "$hosts" ]; then return 0; fi
  while read -r ip names; do
    if is_alias_header "$ip $names"; then break; fi
    case " $ips" in *" $ip "*) ;; *) continue ;; esac
    for name in $names; do
      under_host=${name#"${host%%.*}."}
      if [ "$under_host" = "$name" ]; then continue; fi
      case ${under_host#*.} in "$namespace".svc.*) if is_dns_name "$name"; then fqdn=$name; fi ;; esac
    done
  done <"$hosts"
}

# The image's configuration of openssl may allow some providers alone, such as one for FIPS. It stays in force for every
# command. openssl makes keys by its default provider where it cannot read a configuration; told to, it fails.
use_image_config() {
  if [ -n "${OPENSSL_CONF+named}" ]; then
    config=$OPENSSL_CONF
  else
    config=$(OPENSSL_CONF=/dev/null openssl version -d 2>/dev/null) || config=
    case $config in *'"'*'"'*) config=${config#*'"'} && config=${config%%'"'*}/openssl.cnf ;; *) config= ;; esac
    if [ ! -e "$config" ]; then config=; fi
  fi
  shown=$config
  case $shown in *[!A-Za-z0-9._/+-]*) shown='that OPENSSL_CONF names' ;; esac
  if [ -n "$config" ] && ! cat "$config" >/dev/null 2>&1; then
    fail "the openssl configuration $shown of this image cannot be read, and may ask for certain providers: make it readable for the user of the init container, or set issuance.initContainer.image"
  fi
  # The last value of a setting counts, so the image cannot turn diagnostics off.
  { { if [ -n "$config" ]; then cat "$config"; fi } >"$work/image.cnf" &&
    printf '\n\n[default]\nconfig_diagnostics = 1\n' >>"$work/image.cnf"; } 2>/dev/null || fail_to_write
  if ! check_image_config >"$work/log" 2>&1; then
    show "$work/log"
    fail "openssl cannot use the configuration $shown of this image, so no key is made: correct it and install the providers that it names, or set issuance.initContainer.image"
  fi
}

# openssl passes over a file that it cannot parse, even where it tells the other errors. asn1parse does not.
check_image_config() {
  [ -z "$config" ] || {
    OPENSSL_CONF=/dev/null openssl asn1parse -genstr NULL -noout -genconf "$work/image.cnf" &&
      OPENSSL_CONF=$work/image.cnf openssl version
  }
}
