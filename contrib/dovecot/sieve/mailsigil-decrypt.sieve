# mailsigil: encrypted mail is decrypted when it is stored (mailsigil delivery).
#
# To be run before the users' scripts, and before mailsigil-tags.sieve. "filter" has to be for global scripts
# alone (sieve_global_extensions): a user's own script could ask for the mail of others.

require ["vnd.dovecot.filter", "imap4flags"];

# What may be an envelope; the service looks for itself. Signatures are not worth the way.
if allof (
  anyof (
    header :contains "Content-Type" ["application/pkcs7-mime", "application/x-pkcs7-mime", ".p7m"],
    header :contains "Content-Disposition" ".p7m"
  ),
  not header :contains "Content-Type" ["signed-data", "certs-only"]
) {
  # When it cannot be opened, or nobody answers, the mail is stored as it came.
  if not filter "mailsigil-decrypt" {
    addflag "$Decryption_Failed";
  }
}
