-- One record and the time.
SELECT sessiond.clock(@low::bigint, @skew::bigint) AS now, {record}
FROM sessiond.session s
WHERE s.tenant = @tenant AND s.id = @id
