#!/bin/sh
# gencert_head.sh, revision 1: makes the certificate of a Ray head in the pod that uses it.
role='head'

# The head is dialled by its service's name, so its certificate alone carries that name and the aliases asked for.
# KubeRay sets FQ_RAY_IP in every init container. A client ignores a name's closing dot, a certificate may not have it.
role_check() {
  fq=${FQ_RAY_IP-}
  fq=${fq%.}
  [ -n "$fq" ] || fail 'FQ_RAY_IP is not set: KubeRay sets it in the init containers of a head, run this script there'
  is_dns_name "$fq" || fail 'FQ_RAY_IP is not a DNS name: it must be the name of the head service'
}

role_names() {
  add_san DNS "$fq"
  if [ "$head_short" = true ]; then add_san DNS "${fq%%.*}"; fi
  IFS=,
  # shellcheck disable=SC2086 # split at commas, globbing is off
  set -- $head_names
  IFS=$default_ifs
  for name in "$@"; do add_san DNS "$name"; done
}

role_until_issuer_end() { [ "$head_until_issuer_end" = true ]; }

