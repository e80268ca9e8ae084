<?php

/**
 * mailsigil in Roundcube: labels in the message list, and above a message who really sent it.
 *
 * The keywords come from the Sieve script, the text from the header field Verified-Identity-Text. Both are
 * shown as they are, and nothing is judged here.
 *
 * Roundcube 1.6, skin Elastic. Licence: GPL-3.0-or-later.
 */
class mailsigil extends rcube_plugin
{
    public $task = 'mail';

    /** The field that tells people who sent a mail. */
    private const FIELD = 'Verified-Identity-Text';

    /** Keyword (as Roundcube keeps it: in capitals, without "$"), style and label; the first one counts. */
    private const LABELS = [
        'DECRYPTION_FAILED' => ['closed', 'Could not be decrypted'],
        'DECRYPTION_WITHHELD' => ['closed', 'Not decrypted: may have been altered'],
        'DECRYPTION_UNAVAILABLE' => ['closed', 'Not decrypted: nobody could try'],
        'SIGNATURE_INVALID' => ['invalid', 'Signature invalid'],
        'SIGNATURE_MISMATCH' => ['doubtful', 'Signed by somebody else'],
        'SIGNATURE_UNTRUSTED' => ['doubtful', 'Signer not trusted'],
        'SIGNATURE_UNCHECKED' => ['none', 'Signature not checked'],
        'VERIFIED_V4' => ['v4', 'V4'],
        'VERIFIED_V3' => ['v3', 'V3'],
        'VERIFIED_V2' => ['v2', 'V2'],
        'VERIFIED_V1' => ['v1', 'V1'],
        'VERIFIED_NONE' => ['none', 'Not signed'],
    ];

    public function init()
    {
        $this->add_hook('storage_init', [$this, 'fetch_field']);
        $this->add_hook('messages_list', [$this, 'label_list']);
        $this->add_hook('message_objects', [$this, 'show_identity']);
        $this->include_stylesheet('mailsigil.css');
        if (rcmail::get_instance()->action === '') {
            $this->include_script('mailsigil.js');
        }
    }

    /** Has the field fetched together with those that Roundcube needs itself. */
    public function fetch_field($args)
    {
        $fields = $args['fetch_headers'] ?? '';
        $args['fetch_headers'] = trim($fields . ' ' . strtoupper(self::FIELD));
        return $args;
    }

    /** Hands style and label of each message in the list to the browser. */
    public function label_list($args)
    {
        foreach ($args['messages'] ?? [] as $message) {
            $label = $this->label_of($message);
            if ($label) {
                $message->list_flags['extra_flags']['mailsigil'] = $label;
            }
        }
        return $args;
    }

    /** Puts the identity above the message. */
    public function show_identity($args)
    {
        $headers = $args['message']->headers;
        $label = $this->label_of($headers);
        $text = $headers->get(self::FIELD, false);
        // The milter leaves one field; several were not written by it. Without a label nobody vouches for it.
        if ($label && is_string($text) && $text !== '') {
            $shown = rcube::Q(rcube_mime::decode_header($text, 'UTF-8'));
            $args['content'][] = html::div(['class' => 'mailsigil-identity mailsigil-' . $label[0]], $shown);
        }
        return $args;
    }

    private function label_of($headers)
    {
        $flags = array_change_key_case((array) $headers->flags, CASE_UPPER);
        foreach (self::LABELS as $keyword => $label) {
            if (!empty($flags[$keyword])) {
                return $label;
            }
        }
        return null;
    }
}
