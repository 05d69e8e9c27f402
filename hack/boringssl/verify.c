// Asks BoringSSL what gRPC C-core would ask it: does a peer that trusts a bundle take a chain?
//
//   verify CHAIN.pem BUNDLE.pem UNIX_TIME...
//
// CHAIN is leaf first, as a peer presents it. Prints "ok" and exits 0 if the chain is taken at each time, both from a
// server and from a client; prints the refusal and exits 1 if not; exits 2 if the question cannot be asked.

#include <stdio.h>
#include <stdlib.h>

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

static STACK_OF(X509) *read_certificates(const char *path) {
  STACK_OF(X509) *certificates = sk_X509_new_null();
  FILE *file = fopen(path, "r");
  X509 *certificate;
  if (certificates == NULL || file == NULL) {
    fprintf(stderr, "cannot read %s\n", path);
    exit(2);
  }
  while ((certificate = PEM_read_X509(file, NULL, NULL, NULL)) != NULL) {
    if (!sk_X509_push(certificates, certificate)) exit(2);
  }
  fclose(file);
  return certificates;
}

static int verify(STACK_OF(X509) *chain, STACK_OF(X509) *bundle, time_t at, const char *role) {
  X509_STORE *store = X509_STORE_new();
  X509_STORE_CTX *context = X509_STORE_CTX_new();
  int accepted;
  if (store == NULL || context == NULL) exit(2);
  // The flags gRPC sets on its store.
  X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
  for (size_t i = 0; i < sk_X509_num(bundle); i++) {
    if (!X509_STORE_add_cert(store, sk_X509_value(bundle, i))) exit(2);
  }
  // libssl passes the leaf again among the untrusted certificates, and the role as the default parameters.
  if (!X509_STORE_CTX_init(context, store, sk_X509_value(chain, 0), chain) ||
      !X509_STORE_CTX_set_default(context, role)) {
    exit(2);
  }
  X509_STORE_CTX_set_time(context, 0, at);
  accepted = X509_verify_cert(context) == 1;
  if (!accepted) {
    printf("%s at %lld: depth %d: %s\n", role, (long long)at, X509_STORE_CTX_get_error_depth(context),
           X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
  }
  X509_STORE_CTX_free(context);
  X509_STORE_free(store);
  return accepted;
}

int main(int argc, char **argv) {
  STACK_OF(X509) *chain, *bundle;
  if (argc < 4) {
    fprintf(stderr, "usage: %s CHAIN.pem BUNDLE.pem UNIX_TIME...\n", argv[0]);
    return 2;
  }
  chain = read_certificates(argv[1]);
  bundle = read_certificates(argv[2]);
  if (sk_X509_num(chain) == 0) {
    printf("no certificate in the chain\n");
    return 1;
  }
  for (int i = 3; i < argc; i++) {
    time_t at = (time_t)strtoll(argv[i], NULL, 10);
    if (!verify(chain, bundle, at, "ssl_server") || !verify(chain, bundle, at, "ssl_client")) return 1;
  }
  printf("ok\n");
  return 0;
}
