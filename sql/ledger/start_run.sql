-- Begin a run of a plan, or find the one that has begun already.
-- One row: the run's id and status. The row is kept until the transaction ends.
-- try: plan_id='p-1' kind='dedupe' table_schema='mlops' table_name='t' plan='{}'
with found as (
    select r.id, r.status from fkdoctor.run as r where r.plan_id = :plan_id for key share
),
made as (
    insert into fkdoctor.run (plan_id, kind, table_schema, table_name, plan, status)
    select :plan_id, :kind, :table_schema, :table_name, cast(:plan as jsonb), 'applying'
    where not exists (select 1 from found)
    on conflict (plan_id) do update set kind = excluded.kind
    returning id, status
)
select f.id, f.status from found as f
union all
select m.id, m.status from made as m;
