-- KEYS: one or two lists of places. ARGV: from, to, limit.
-- Returns up to limit places of each, newest first.
local answer = {}
for i = 1, #KEYS do
  answer[i] = redis.call('ZRANGE', KEYS[i], ARGV[1], ARGV[2], 'BYLEX', 'REV', 'LIMIT', 0, ARGV[3])
end
return answer
