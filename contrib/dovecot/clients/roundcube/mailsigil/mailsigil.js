// mailsigil in Roundcube: a label in front of each subject in the list.
window.rcmail && rcmail.addEventListener('init', function () {
  rcmail.addEventListener('insertrow', function (event) {
    var message = rcmail.env.messages[event.uid];
    var label = message && message.flags && message.flags.mailsigil;
    if (!label) {
      return;
    }
    $('<span>')
      .addClass('mailsigil-label mailsigil-' + label[0])
      .text(label[1])
      .insertBefore($('span.subject a', event.row.obj).first());
  });
});
