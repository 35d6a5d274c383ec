-- KEYS: record, clock. ARGV: clock, incarnation or nothing, time or nothing.
-- Moves the last activity of a live session, never backwards and not past the present.
-- Returns the time, and the record as it was and its last activity if there is one.
local now, wall, us, kept = clock(KEYS[2], ARGV[1])
local record = redis.call('GET', KEYS[1])
local h = head(record)
if not h or ARGV[2] ~= '' and ARGV[2] ~= h.incarnation then
  return {now}
end
local active = h.active
if h.open and now < deadline(active, h.expires, h.idle) then
  local at = now
  if ARGV[3] ~= '' then
    at = math.min(now, tonumber(ARGV[3]))
  end
  if at > active then
    active = at
    redis.call('SETRANGE', KEYS[1], active_at, struct.pack('>i8', at))
    if now - kept >= 500 then
      keep(KEYS[2], now, wall, us)
    end
  end
end
return {now, record, active}
