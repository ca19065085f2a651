create table job_postings (board text, number bigint, primary key (board, number));
create table applications (
    id bigint primary key,
    board text,
    number bigint,
    foreign key (board, number) references job_postings match full on delete cascade
);
create index on applications (board, number);
