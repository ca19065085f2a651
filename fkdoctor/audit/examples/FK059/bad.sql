-- Finds paris.matches.matches_resume_id_fkey
create schema berlin;
create table berlin.resumes (id bigint primary key);
create table berlin.postings (id bigint primary key);
create table berlin.matches (
    id bigint primary key,
    resume_id bigint references berlin.resumes on delete set null
);
create index on berlin.matches (resume_id);
create schema paris;
create table paris.resumes (id bigint primary key);
create table paris.postings (id bigint primary key);
create table paris.matches (
    id bigint primary key,
    resume_id bigint references paris.resumes on delete cascade
);
create index on paris.matches (resume_id);
