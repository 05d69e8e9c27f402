#!/bin/sh
# shellcheck disable=SC2034 # it reads the head's parameters too, to check them
# gencert_worker.sh, revision 1: makes the certificate of a Ray worker in the pod that uses it.
role='worker'

role_check() { :; }

# A worker's certificate carries its own addresses and name alone: with the head's in it, it could pose as the head.
role_names() { :; }

role_until_issuer_end() { return 1; }

