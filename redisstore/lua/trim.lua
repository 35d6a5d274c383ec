-- Trims the feed. KEYS: meta, events. ARGV: 1 time before which events go, 2 number up to
-- which they go, 3 how many are looked at.
-- Returns how many went. The meta record keeps the number and the nonce of the last.
local last, nonce = 0, ''
local before, upto = tonumber(ARGV[1]), tonumber(ARGV[2])
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', ARGV[3])) do
  local n = tonumber(string.match(entry[1], '^%d+'))
  if n > upto and tonumber(entry[2][2]) >= before then
    break
  end
  last, nonce = n, entry[2][4]
end
if last == 0 then
  return 0
end
local went = redis.call('XTRIM', KEYS[2], 'MINID', string.format('%d', last + 1))
redis.call('HSET', KEYS[1], 'f', last, 'fc', nonce)
return went
