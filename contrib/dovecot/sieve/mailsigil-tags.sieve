# mailsigil: who really sent a mail, as IMAP keywords, which mail programs show as coloured tags.
#
# To be run before the users' scripts. The milter removes Verified-Identity fields that others wrote, so what
# stands here came from it, if the mail came through it: see that no other way leads to LMTP.

require ["imap4flags", "index", "relational", "comparator-i;ascii-numeric", "variables"];

# The name of your milter: authserv_id in mailsigil.toml.
set "authserv_id" "mx.bank.example";

# One field of each kind that the milter writes, as it writes them, with its own results on top. Mail that
# looks otherwise did not come through it, and gets no tag.
if allof (
  header :count "eq" :comparator "i;ascii-numeric" "Verified-Identity" "1",
  header :count "eq" :comparator "i;ascii-numeric" "Verified-Identity-Text" "1",
  header :index 1 :matches "Authentication-Results" "${authserv_id}; smime=*"
) {
  if header :matches "Verified-Identity" "V4; status=trusted; *" {
    addflag "$Verified_V4";
  } elsif header :matches "Verified-Identity" "V3; status=trusted; *" {
    addflag "$Verified_V3";
  } elsif header :matches "Verified-Identity" "V2; status=trusted; *" {
    addflag "$Verified_V2";
  } elsif header :matches "Verified-Identity" "V1; status=trusted; *" {
    addflag "$Verified_V1";
  } elsif header :matches "Verified-Identity" "none; status=unsigned*" {
    addflag "$Verified_None";
  } elsif header :matches "Verified-Identity" "none; status=invalid*" {
    addflag "$Signature_Invalid";
  } elsif header :matches "Verified-Identity" "none; status=untrusted*" {
    addflag "$Signature_Untrusted";
  } elsif header :matches "Verified-Identity" "none; status=mismatch*" {
    addflag "$Signature_Mismatch";
  } elsif header :matches "Verified-Identity" "none; status=unchecked*" {
    addflag "$Signature_Unchecked";
  }
}
