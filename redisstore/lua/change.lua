-- KEYS: record, clock, meta, counts, events, due, over, live, ended, all.
-- ARGV: 1 clock, 2 incarnation, 3 number of the write that the change builds on,
-- 4 what must hold ('live', 'due' or 'any'), 5 stamp of the entry in the subject index or
-- nothing, 6 'put' or 'del', 7 tenant, 8 id, 9 data key so far, 10 data key, 11 updated,
-- 12 last active, 13 expires, 14 idle timeout, 15 ended or nothing, 16 body, 17 nonce, then events.
-- Returns {0, time, last active}, {1} when the record is not what the change builds on or
-- the condition does not hold, or {2} when the stamp is too old.
local now, wall, us = clock(KEYS[2], ARGV[1])
local h = head_of(KEYS[1])
if not h or h.incarnation ~= ARGV[2] or h.write ~= tonumber(ARGV[3]) then
  return {1}
end
local active, open = h.active, h.open
local over = now >= deadline(active, h.expires, h.idle)
local given = tonumber(ARGV[12])
local ended = tonumber(ARGV[15])
if ARGV[4] == 'live' then
  -- Nobody is active after the end, so a touch that came in between is seen first.
  if not open or over or ended and active > given then
    return {1}
  end
elseif ARGV[4] == 'due' then
  if not open or not over or active ~= given then
    return {1}
  end
end
if too_old(ARGV[5], us) then
  return {2}
end

local tenant, id = ARGV[7], ARGV[8]
local member, at = tenant .. '\0' .. id, place(h.created, id)
append(KEYS[3], KEYS[5], now, us, ARGV[17], 18)
keep(KEYS[2], now, wall, us)
if ARGV[6] == 'del' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[10], member)
  if open then
    redis.call('ZREM', KEYS[6], member)
    redis.call('ZREM', KEYS[8], at)
  else
    redis.call('ZREM', KEYS[7], member)
    redis.call('ZREM', KEYS[9], at)
  end
else
  active = math.max(active, given)
  local expires, idle = tonumber(ARGV[13]), tonumber(ARGV[14])
  local new = struct.pack(layout, h.incarnation, h.write + 1, h.created, ARGV[11], active, expires, idle,
    open and ended or h.ended)
  redis.call('SET', KEYS[1], new .. ARGV[16])
  if not ended then
    redis.call('ZADD', KEYS[6], deadline(active, expires, idle), member)
  elseif open then
    redis.call('ZREM', KEYS[6], member)
    redis.call('ZADD', KEYS[7], ended, member)
    redis.call('ZREM', KEYS[8], at)
    redis.call('ZADD', KEYS[9], 0, at)
  end
end
if open and (ended or ARGV[6] == 'del') then
  count(KEYS[4], 'a:' .. tenant, -1)
end
if ARGV[9] ~= ARGV[10] then
  if ARGV[9] ~= '0' then
    count(KEYS[4], 'k:' .. ARGV[9], -1)
  end
  if ARGV[10] ~= '0' then
    count(KEYS[4], 'k:' .. ARGV[10], 1)
  end
end
return {0, now, active}
