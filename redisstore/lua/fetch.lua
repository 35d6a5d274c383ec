-- KEYS: meta, then head and body of each record. ARGV: clock.
-- Returns the time, and for each record head and body, or nothing twice.
local answer = {(clock(KEYS[1], ARGV[1]))}
for i = 2, #KEYS, 2 do
  local h = head(KEYS[i])
  if h[1] then
    answer[#answer + 1] = h
    answer[#answer + 1] = redis.call('GET', KEYS[i + 1])
  else
    answer[#answer + 1] = false
    answer[#answer + 1] = false
  end
end
return answer
