/* A CMP authority on libcrypto's OSSL_CMP_SRV, for tests: reads requests on standard input and writes answers on
 * standard output, each as four octets of length and DER. Arguments: CA certificate, CA key, shared secret, and
 * how to behave: "issue", "other-address", "other-key", "no-purpose", "expired", "reject", "wait" (ask again in
 * seven seconds, twice), "wait-reject" (the same, and then no), "wait-strict" (the same as "wait", and whoever asks
 * again after an answer got lost is told that he does not know the last nonce).
 */
#include <arpa/inet.h>
#include <openssl/cmp.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

static X509 *ca;
static EVP_PKEY *ca_key, *other_key;
static const char *mode;
static OSSL_CMP_MSG *waiting; /* the request that is not decided yet */
static int polls;

static void add(X509 *cert, int nid, const char *value) {
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, ca, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
}

/* The public key of a CRMF template is its field [6]; OpenSSL 3.0 has no function for it. */
static EVP_PKEY *template_key(const OSSL_CRMF_CERTTEMPLATE *tmpl) {
    unsigned char *der = NULL;
    int size = i2d_OSSL_CRMF_CERTTEMPLATE((OSSL_CRMF_CERTTEMPLATE *)tmpl, &der);
    const unsigned char *at = der, *end = der + size;
    long length;
    int tag, class;
    EVP_PKEY *key = NULL;
    ASN1_get_object(&at, &length, &tag, &class, end - at);
    while (at < end) {
        const unsigned char *start = at;
        ASN1_get_object(&at, &length, &tag, &class, end - at);
        if (tag == 6) {
            *(unsigned char *)start = V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED;
            key = d2i_PUBKEY(NULL, &start, at + length - start);
            break;
        }
        at += length;
    }
    OPENSSL_free(der);
    return key;
}

static OSSL_CMP_PKISI *certify(OSSL_CMP_SRV_CTX *srv, const OSSL_CMP_MSG *req, int id, const OSSL_CRMF_MSG *crm,
                               const X509_REQ *p10, X509 **out, STACK_OF(X509) **chain, STACK_OF(X509) **pubs) {
    if (!strncmp(mode, "wait", 4) && waiting == NULL) {
        waiting = OSSL_CMP_MSG_dup(req);
        polls = 0;
        return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_waiting, 0, NULL);
    }
    if (!strcmp(mode, "reject") || !strcmp(mode, "wait-reject"))
        return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_rejection, 1 << OSSL_CMP_PKIFAILUREINFO_notAuthorized,
                                       "this person is not known here");
    OSSL_CRMF_CERTTEMPLATE *tmpl = crm != NULL ? OSSL_CRMF_MSG_get0_tmpl(crm) : NULL;
    EVP_PKEY *key = p10 != NULL ? X509_REQ_get_pubkey((X509_REQ *)p10) : template_key(tmpl);
    X509 *cert = X509_new();
    unsigned char serial[8];
    X509_set_version(cert, 2);
    RAND_bytes(serial, sizeof serial);
    BIGNUM *number = BN_bin2bn(serial, sizeof serial, NULL);
    BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
    BN_free(number);
    X509_set_issuer_name(cert, X509_get_subject_name(ca));
    X509_set_subject_name(cert, p10 != NULL ? X509_REQ_get_subject_name(p10) : OSSL_CRMF_CERTTEMPLATE_get0_subject(tmpl));
    int past = !strcmp(mode, "expired") ? -100 : 0;
    X509_gmtime_adj(X509_getm_notBefore(cert), (past - 1) * 86400L);
    X509_gmtime_adj(X509_getm_notAfter(cert), (past + 30) * 86400L);
    X509_set_pubkey(cert, strcmp(mode, "other-key") ? key : other_key);
    STACK_OF(X509_EXTENSION) *exts = p10 != NULL ? X509_REQ_get_extensions((X509_REQ *)p10)
                                                 : (STACK_OF(X509_EXTENSION) *)OSSL_CRMF_CERTTEMPLATE_get0_extensions(tmpl);
    if (!strcmp(mode, "other-address")) add(cert, NID_subject_alt_name, "email:eve@bank.example");
    else for (int i = 0; i < sk_X509_EXTENSION_num(exts); i++) X509_add_ext(cert, sk_X509_EXTENSION_value(exts, i), -1);
    add(cert, NID_key_usage, "critical,digitalSignature");
    if (strcmp(mode, "no-purpose")) add(cert, NID_ext_key_usage, "emailProtection");
    add(cert, NID_subject_key_identifier, "hash");
    X509_sign(cert, ca_key, EVP_sha256());
    *out = cert;
    return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_accepted, 0, NULL);
}

static OSSL_CMP_PKISI *revoke(OSSL_CMP_SRV_CTX *srv, const OSSL_CMP_MSG *req, const X509_NAME *issuer,
                              const ASN1_INTEGER *serial) {
    if (issuer == NULL || X509_NAME_cmp(issuer, X509_get_subject_name(ca)) != 0)
        return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_rejection, 1 << OSSL_CMP_PKIFAILUREINFO_badCertId, "not ours");
    return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_accepted, 0, NULL);
}

static int confirmed(OSSL_CMP_SRV_CTX *srv, const OSSL_CMP_MSG *req, int id, const ASN1_OCTET_STRING *hash,
                     const OSSL_CMP_PKISI *si) { return 1; }

/* Decided after two polls: then the request of before is processed once more. */
static int polled(OSSL_CMP_SRV_CTX *srv, const OSSL_CMP_MSG *req, int id, OSSL_CMP_MSG **decided, int64_t *seconds) {
    *decided = NULL;
    *seconds = 7;
    if (waiting == NULL) return 0;
    if (++polls > 2) *decided = waiting; /* certify() is called with it, and then issues or rejects */
    return 1;
}

#define POLL_REQ 25 /* RFC 9810 5.1.2; no header that is installed names it */

/* A poll counts by its transaction: who did not get the last answer cannot know its nonce. libcrypto wants it. */
static void forgive(OSSL_CMP_CTX *ctx, const OSSL_CMP_MSG *req) {
    if (req == NULL || OSSL_CMP_MSG_get_bodytype(req) != POLL_REQ || !strcmp(mode, "wait-strict")) return;
    OSSL_CMP_CTX_set1_senderNonce(ctx, OSSL_CMP_HDR_get0_recipNonce(OSSL_CMP_MSG_get0_header(req)));
}

int main(int argc, char **argv) {
    static unsigned char buffer[1 << 20];
    BIO *in = BIO_new_file(argv[1], "r");
    ca = PEM_read_bio_X509(in, NULL, NULL, NULL);
    in = BIO_new_file(argv[2], "r");
    ca_key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
    other_key = EVP_EC_gen("P-256");
    mode = argv[4];
    OSSL_CMP_SRV_CTX *srv = OSSL_CMP_SRV_CTX_new(NULL, NULL);
    OSSL_CMP_CTX *ctx = OSSL_CMP_SRV_CTX_get0_cmp_ctx(srv);
    OSSL_CMP_SRV_CTX_init(srv, NULL, certify, revoke, NULL, NULL, confirmed, polled);
    OSSL_CMP_SRV_CTX_set_grant_implicit_confirm(srv, argc > 5 && !strcmp(argv[5], "implicit"));
    OSSL_CMP_CTX_set1_cert(ctx, ca);
    OSSL_CMP_CTX_set1_pkey(ctx, ca_key);
    OSSL_CMP_CTX_set1_secretValue(ctx, (unsigned char *)argv[3], strlen(argv[3]));
    X509_STORE *store = X509_STORE_new();
    X509_STORE_add_cert(store, ca);
    OSSL_CMP_CTX_set0_trustedStore(ctx, store);
    for (;;) {
        uint32_t length;
        if (fread(&length, 4, 1, stdin) != 1) return 0;
        length = ntohl(length);
        if (length > sizeof buffer || fread(buffer, 1, length, stdin) != length) return 1;
        const unsigned char *at = buffer;
        OSSL_CMP_MSG *request = d2i_OSSL_CMP_MSG(NULL, &at, length);
        forgive(ctx, request);
        OSSL_CMP_MSG *answer = request ? OSSL_CMP_SRV_process_request(srv, request) : NULL;
        unsigned char *der = NULL;
        int size = answer ? i2d_OSSL_CMP_MSG(answer, &der) : 0;
        uint32_t sent = htonl(size > 0 ? size : 0);
        if (size <= 0) ERR_print_errors_fp(stderr);
        fwrite(&sent, 4, 1, stdout);
        if (size > 0) fwrite(der, 1, size, stdout);
        fflush(stdout);
        OSSL_CMP_MSG_free(request);
        OSSL_CMP_MSG_free(answer);
        OPENSSL_free(der);
    }
}
