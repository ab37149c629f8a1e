-- Makes the reader of the report views, who can read nothing else; again and again without harm. docs/guides/sql-and-csv.md
-- says how. Run it as the user of DATABASE_URL, with the password in READER_PASSWORD; --set=reader=NAME makes another reader.
\set ON_ERROR_STOP on
\if :{?reader}
\else
    \set reader tallyhook_reader
\endif

SELECT NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = :'reader') AS is_new \gset
\if :is_new
    \getenv password READER_PASSWORD
    \if :{?password}
    \else
        DO $$ BEGIN RAISE 'READER_PASSWORD is not set: export the password of the new role'; END $$;
    \endif
    CREATE ROLE :"reader" LOGIN PASSWORD :'password' CONNECTION LIMIT 10;
    ALTER ROLE :"reader" SET timezone = 'UTC';
    ALTER ROLE :"reader" SET statement_timeout = '30s';
    ALTER ROLE :"reader" SET idle_in_transaction_session_timeout = '1min';
    ALTER ROLE :"reader" SET default_transaction_read_only = on;
\endif

GRANT CONNECT ON DATABASE :"DBNAME" TO :"reader";
GRANT USAGE ON SCHEMA tallyhook_report TO :"reader";
GRANT SELECT ON ALL TABLES IN SCHEMA tallyhook_report TO :"reader";
-- Those that a later version adds.
ALTER DEFAULT PRIVILEGES IN SCHEMA tallyhook_report GRANT SELECT ON TABLES TO :"reader";
