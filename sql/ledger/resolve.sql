-- Where does the key of a merged row lead now, through all merges since?
-- One row, or none: the key at the end, and the run that merged the row first.
-- try: table_schema='mlops' table_name='r' key='{2}'
with recursive led (old_key, new_key, run_id) as (
    select r.old_key, r.new_key, r.run_id
    from fkdoctor.redirect as r
    join fkdoctor.step as s on s.run_id = r.run_id and s.step = r.step
    where s.table_schema = :table_schema and s.table_name = :table_name
),
way (new_key, run_id, first_run) as (
    (
        select l.new_key, l.run_id, l.run_id
        from led as l
        where l.old_key = cast(:key as text[])
        order by l.run_id desc
        limit 1
    )
    union all
    -- The next run: a key that was merged may be given to a new row, and that be merged too.
    (
        select n.new_key, n.run_id, w.first_run
        from way as w
        cross join lateral (
            select l.new_key, l.run_id
            from led as l
            where l.old_key = w.new_key and l.run_id > w.run_id
            order by l.run_id
            limit 1
        ) as n
    )
)
select w.new_key, w.first_run
from way as w
order by w.run_id desc
limit 1;
