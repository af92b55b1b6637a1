-- Run once, by the image of PostgreSQL, when it makes the database: the daemon's role owns that, and is nothing more. A
-- superuser could run programs on the server, and read its files.
-- psql reads the password from the file itself, so that it stands in no list of processes.
\set password `cat /run/secrets/postgres_password`
CREATE ROLE voucher_sync LOGIN PASSWORD :'password';
ALTER DATABASE voucher_sync OWNER TO voucher_sync;
-- For BI, for applications and for who moves what they queued; `voucher-sync migrate` grants them what they need.
CREATE ROLE mews_reader;
CREATE ROLE mews_writer;
CREATE ROLE mews_operator;
-- The superuser is for whoever can enter the container, by the socket there: over the network it has no password.
ALTER ROLE postgres PASSWORD NULL;
