// mailsigil in Thunderbird: append this to user.js in the profile's folder (Help, Troubleshooting
// Information, Profile Folder). For many machines take thunderbird-policies.json.

// Tags: the keywords that the Sieve script sets, in small letters.
user_pref("mailnews.tags.$verified_v4.tag", "V4 person of an organisation");
user_pref("mailnews.tags.$verified_v4.color", "#1B7F3B");
user_pref("mailnews.tags.$verified_v4.ordinal", "a1");
user_pref("mailnews.tags.$verified_v3.tag", "V3 organisation");
user_pref("mailnews.tags.$verified_v3.color", "#1B7F3B");
user_pref("mailnews.tags.$verified_v3.ordinal", "a2");
user_pref("mailnews.tags.$verified_v2.tag", "V2 person");
user_pref("mailnews.tags.$verified_v2.color", "#3E8E00");
user_pref("mailnews.tags.$verified_v2.ordinal", "a3");
user_pref("mailnews.tags.$verified_v1.tag", "V1 address only");
user_pref("mailnews.tags.$verified_v1.color", "#00707A");
user_pref("mailnews.tags.$verified_v1.ordinal", "a4");
user_pref("mailnews.tags.$verified_none.tag", "Not signed");
user_pref("mailnews.tags.$verified_none.color", "#6B6B6B");
user_pref("mailnews.tags.$verified_none.ordinal", "a5");
user_pref("mailnews.tags.$signature_invalid.tag", "Signature invalid");
user_pref("mailnews.tags.$signature_invalid.color", "#C4001A");
user_pref("mailnews.tags.$signature_invalid.ordinal", "a6");
user_pref("mailnews.tags.$signature_untrusted.tag", "Signer not trusted");
user_pref("mailnews.tags.$signature_untrusted.color", "#B25E00");
user_pref("mailnews.tags.$signature_untrusted.ordinal", "a7");
user_pref("mailnews.tags.$signature_mismatch.tag", "Signed by somebody else");
user_pref("mailnews.tags.$signature_mismatch.color", "#B25E00");
user_pref("mailnews.tags.$signature_mismatch.ordinal", "a8");
user_pref("mailnews.tags.$signature_unchecked.tag", "Signature not checked");
user_pref("mailnews.tags.$signature_unchecked.color", "#6B6B6B");
user_pref("mailnews.tags.$signature_unchecked.ordinal", "a9");
user_pref("mailnews.tags.$decryption_failed.tag", "Could not be decrypted");
user_pref("mailnews.tags.$decryption_failed.color", "#5B3FB5");
user_pref("mailnews.tags.$decryption_failed.ordinal", "b1");
user_pref("mailnews.tags.$decryption_withheld.tag", "Not decrypted: may have been altered");
user_pref("mailnews.tags.$decryption_withheld.color", "#8A3FB5");
user_pref("mailnews.tags.$decryption_withheld.ordinal", "b2");
user_pref("mailnews.tags.$decryption_unavailable.tag", "Not decrypted: nobody could try");
user_pref("mailnews.tags.$decryption_unavailable.color", "#6B6B6B");
user_pref("mailnews.tags.$decryption_unavailable.ordinal", "b3");

// The header itself, above the mail; and for filters and searches.
user_pref("mailnews.headers.extraExpandedHeaders", "Verified-Identity-Text");
user_pref("mailnews.customHeaders", "Verified-Identity: Verified-Identity-Text");
user_pref("mailnews.customDBHeaders", "Verified-Identity Verified-Identity-Text");
