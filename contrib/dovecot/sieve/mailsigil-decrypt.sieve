# mailsigil: encrypted mail is decrypted when it is stored (mailsigil delivery).
#
# To be run before the users' scripts, and before mailsigil-tags.sieve. "filter" and "editheader" have to be for
# global scripts alone (sieve_global_extensions): with "filter" a user's own script could ask for the mail of
# others.

require ["vnd.dovecot.filter", "editheader", "imap4flags", "index"];

# What may be an envelope; the service looks for itself. Signatures are not worth the way.
if allof (
  anyof (
    header :contains "Content-Type" ["application/pkcs7-mime", "application/x-pkcs7-mime", ".p7m"],
    header :contains "Content-Disposition" ".p7m"
  ),
  not header :contains "Content-Type" ["signed-data", "certs-only"]
) {
  if filter "mailsigil-decrypt" {
    # The service writes what became of the mail on top of it. What the sender wrote stands below that.
    if header :index 1 :is "Mailsigil-Decryption" "closed" {
      addflag "$Decryption_Failed";
    } elsif header :index 1 :is "Mailsigil-Decryption" "withheld" {
      addflag "$Decryption_Withheld";
    } elsif header :index 1 :is "Mailsigil-Decryption" "unavailable" {
      addflag "$Decryption_Unavailable";
    }
    # So the mail is stored as it came, octet by octet.
    deleteheader "Mailsigil-Decryption";
  } else {
    # Nobody answered: the mail is stored as it came.
    addflag "$Decryption_Unavailable";
  }
}
