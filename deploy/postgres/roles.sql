-- The two logins of a new cluster and the database, run once as superuser:
--   SECRETS=/run/secrets psql --username postgres --file deploy/postgres/roles.sql
-- bacmr_migrator makes and owns the schema. bacmr_server is what servers and workers connect as: it may act as
-- bacmr_app, which row-level security binds, and as nobody else. On a managed PostgreSQL run the same by hand.
\set ON_ERROR_STOP on
\set migrator_password `cat "${SECRETS:-/run/secrets}/postgres_migrator_password"`
\set server_password `cat "${SECRETS:-/run/secrets}/postgres_server_password"`

CREATE ROLE bacmr_owner NOLOGIN;
CREATE ROLE bacmr_app NOLOGIN NOBYPASSRLS;
-- CREATEDB: the drill restores into a database of its own.
CREATE ROLE bacmr_migrator LOGIN CREATEROLE CREATEDB PASSWORD :'migrator_password';
GRANT bacmr_owner, bacmr_app TO bacmr_migrator WITH ADMIN OPTION;
CREATE ROLE bacmr_server LOGIN PASSWORD :'server_password' IN ROLE bacmr_app;
CREATE DATABASE bacmr OWNER bacmr_migrator ENCODING 'UTF8' TEMPLATE template0;
