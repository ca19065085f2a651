-- Finds public.applications.applications_board_number_fkey
create table job_postings (board text, number bigint, primary key (board, number));
create table applications (
    id bigint primary key,
    board text,
    number bigint,
    foreign key (board, number) references job_postings on delete cascade
);
create index on applications (board, number);
