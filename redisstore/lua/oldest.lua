-- The names of the oldest events. KEYS: events. ARGV: how many.
local names = {}
for i, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])) do
  names[i] = entry[1]
end
return names
