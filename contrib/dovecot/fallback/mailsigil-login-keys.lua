-- Keys that the login password opens, for Dovecot 2.3 and 2.4. It stands behind the password databases that
-- check the password, and is asked for nobody whose password was not right (skip = unauthenticated).

local SOCKET = "/run/mailsigil-dovecot/login-keys"
local SECONDS = 4

local unix = require "socket.unix"
local LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  local out = {}
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    for place = 3, 0, -1 do
      local index = math.floor(n / 64 ^ place) % 64 + 1
      out[#out + 1] = LETTERS:sub(index, index)
    end
    if not b then
      out[#out - 1] = "="
    end
    if not c then
      out[#out] = "="
    end
  end
  return table.concat(out)
end

local function ask(user, password)
  local connection = (unix.stream or unix)()
  connection:settimeout(SECONDS)
  local line
  if connection:connect(SOCKET) and connection:send("open " .. user .. " " .. base64(password) .. "\n") then
    line = connection:receive("*l")
  end
  connection:close()
  return line or "later the key agent does not answer"
end

local function fields_of(keys, new)
  local fields, names, number = {}, {}, 0
  for key in keys:gmatch("%S+") do
    number = number + 1
    if new then
      names[number] = "k" .. number
      fields["userdb_crypt_global_private_key/k" .. number .. "/crypt_private_key_file"] = "inline:" .. key
    else
      fields["userdb_mail_crypt_global_private_key" .. (number > 1 and number or "")] = key
    end
  end
  if new then
    fields.userdb_crypt_global_private_key = table.concat(names, " ")
  end
  return fields
end

function auth_password_verify(request, password)
  local new = request.protocol ~= nil
  local service = request.protocol or request.service
  -- Who logs in as somebody else, or sends mail, gets no keys.
  local master = request.auth_user and request.auth_user ~= "" and request.auth_user ~= request.user
  if service ~= "imap" or master or request.user:find("[%c ]") then
    return dovecot.auth.PASSDB_RESULT_OK, {}
  end
  local asked, line = pcall(ask, request.user, password)
  local word, rest = tostring(line):match("^(%l+) ?(.*)$")
  if asked and word == "keys" then
    return dovecot.auth.PASSDB_RESULT_OK, fields_of(rest, new)
  end
  if asked and (word == "none" or word == "locked") then
    return dovecot.auth.PASSDB_RESULT_OK, {}
  end
  request:log_error("mailsigil: " .. tostring(asked and rest or "the key agent cannot be asked"))
  return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, "no keys just now"
end

function script_init()
  return 0
end

function script_deinit()
end
