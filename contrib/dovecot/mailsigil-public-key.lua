-- Dovecot's user database of mailsigil: which public key encrypts the mail that is delivered to a user?
-- It works in Dovecot 2.3 and 2.4 and needs the packages dovecot-auth-lua and lua-socket. It knows no private
-- keys: what a user database answers can be asked for by others.

local SOCKET = "/run/mailsigil-dovecot/public-keys"
local SECONDS = 4

local unix = require "socket.unix"

-- One line for one line, see the README beside this file. Gives the word and what stands behind it.
local function ask(user)
  local connection = (unix.stream or unix)()
  connection:settimeout(SECONDS)
  local done, trouble = connection:connect(SOCKET)
  local line
  if done then
    done, trouble = connection:send("public-key " .. user .. "\n")
  end
  if done then
    line, trouble = connection:receive("*l")
  end
  connection:close()
  if not line then
    return "later", tostring(trouble)
  end
  local word, rest = line:match("^(%l+) ?(.*)$")
  return word, rest
end

local function fields_of(key, new)
  if new then
    return { crypt_global_public_key_file = "inline:" .. key, crypt_write_algorithm = "aes-256-gcm-sha256" }
  end
  return { mail_crypt_global_public_key = key, mail_crypt_save_version = "2" }
end

function auth_userdb_lookup(request)
  -- 2.4 calls "protocol" what was "service" before.
  local new = request.protocol ~= nil
  local service = request.protocol or request.service
  local delivers = service == "lmtp" or service == "lda"
  if not delivers and service ~= "doveadm" then
    return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, ""
  end
  if request.user:find("%c") then
    return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, "a user name with control characters"
  end
  local asked, word, rest = pcall(ask, request.user)
  if asked and word == "key" then
    return dovecot.auth.USERDB_RESULT_OK, fields_of(rest, new)
  end
  if asked and word == "none" or not delivers then
    return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, ""
  end
  -- Nothing is stored in clear because nobody answered: Dovecot says 451, and the mail waits in the queue.
  request:log_error("mailsigil: " .. tostring(asked and rest or word))
  return dovecot.auth.USERDB_RESULT_INTERNAL_FAILURE, "the key agent did not answer"
end

function script_init()
  return 0
end

function script_deinit()
end

function auth_userdb_iterate()
  return {}
end
