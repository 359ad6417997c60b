-- the rows of p0
CREATE TABLE "tide_data"."t4_p0" ("id" bigint NOT NULL, "City" text COLLATE pg_catalog."C" DEFAULT 'it''s'::text, CONSTRAINT "no ""zero""" CHECK ((id <> 0)), PRIMARY KEY ("id", "City"));
CREATE INDEX "t4_p0_i0" ON "tide_data"."t4_p0" USING btree ("City");
CREATE UNIQUE INDEX "t4_p0_i1" ON "tide_data"."t4_p0" USING btree ("City", id);
CREATE TRIGGER tide_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON "tide_data"."t4_p0" EXECUTE FUNCTION tide.not_the_leader();
CREATE TRIGGER tide_fixed_key BEFORE UPDATE OF "id" ON "tide_data"."t4_p0" FOR EACH ROW WHEN (OLD."id" IS DISTINCT FROM NEW."id") EXECUTE FUNCTION tide.fixed_key('id');
ALTER TABLE "tide_data"."t4_p0" OWNER TO tide_owner;

-- their constraint, where the table is there already
DO 'BEGIN IF to_regproc(''tide.attaches'') IS NULL THEN EXECUTE ''ALTER TABLE "tide_data"."t4_p0" '' || ''ADD CONSTRAINT tide_of_table CHECK ('' || ''satisfies_hash_partition('' || ''"public"."acct"''::regclass::oid || ''::oid, 2, 0, "id")'' || '')'' || '', '' || ''ADD CONSTRAINT tide_of_hinge CHECK ('' || ''satisfies_hash_partition('' || ''"tide_hinge"."t4_p0"''::regclass::oid || ''::oid, 1, 0, "id")'' || '')''; ELSE EXECUTE ''ALTER TABLE "tide_data"."t4_p0" '' || ''ADD CONSTRAINT tide_partition CHECK ('' || ''NOT tide.attaches() OR '' || ''satisfies_hash_partition('' || ''"public"."acct"''::regclass::oid || ''::oid, 2, 0, "id")'' || '' AND '' || ''satisfies_hash_partition('' || ''"tide_hinge"."t4_p0"''::regclass::oid || ''::oid, 1, 0, "id")'' || '')''; END IF; END';

-- the table on node 1, which leads p0
CREATE SCHEMA IF NOT EXISTS "public" AUTHORIZATION tide;
CREATE TABLE "public"."acct" ("id" bigint NOT NULL, "City" text COLLATE pg_catalog."C" DEFAULT 'it''s'::text, CONSTRAINT "no ""zero""" CHECK ((id <> 0))) PARTITION BY HASH ("id");
ALTER TABLE "public"."acct" OWNER TO tide_owner;
INSERT INTO tide.distributed (relid, tid) VALUES ('"public"."acct"'::regclass, 4);
CREATE TABLE "tide_hinge"."t4_p0" PARTITION OF "public"."acct" FOR VALUES WITH (MODULUS 2, REMAINDER 0) PARTITION BY HASH ("id");
ALTER TABLE "tide_hinge"."t4_p0" OWNER TO tide_owner;
DO 'BEGIN IF to_regproc(''tide.attaches'') IS NULL THEN EXECUTE ''ALTER TABLE "tide_data"."t4_p0" '' || ''ADD CONSTRAINT tide_of_table CHECK ('' || ''satisfies_hash_partition('' || ''"public"."acct"''::regclass::oid || ''::oid, 2, 0, "id")'' || '')'' || '', '' || ''ADD CONSTRAINT tide_of_hinge CHECK ('' || ''satisfies_hash_partition('' || ''"tide_hinge"."t4_p0"''::regclass::oid || ''::oid, 1, 0, "id")'' || '')''; ELSE EXECUTE ''ALTER TABLE "tide_data"."t4_p0" '' || ''ADD CONSTRAINT tide_partition CHECK ('' || ''NOT tide.attaches() OR '' || ''satisfies_hash_partition('' || ''"public"."acct"''::regclass::oid || ''::oid, 2, 0, "id")'' || '' AND '' || ''satisfies_hash_partition('' || ''"tide_hinge"."t4_p0"''::regclass::oid || ''::oid, 1, 0, "id")'' || '')''; END IF; END';
ALTER TABLE "tide_hinge"."t4_p0" ATTACH PARTITION "tide_data"."t4_p0" FOR VALUES WITH (MODULUS 1, REMAINDER 0);
ALTER TABLE "tide_data"."t4_p0" DISABLE TRIGGER tide_guard;
CREATE TABLE "tide_hinge"."t4_p1" PARTITION OF "public"."acct" FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY HASH ("id");
ALTER TABLE "tide_hinge"."t4_p1" OWNER TO tide_owner;
CREATE FOREIGN TABLE IF NOT EXISTS "tide_remote"."t4_p1_n2" ("id" bigint NOT NULL, "City" text COLLATE pg_catalog."C" DEFAULT 'it''s'::text, CONSTRAINT "no ""zero""" CHECK ((id <> 0))) SERVER "tide_n2" OPTIONS (schema_name 'tide_hinge', table_name 't4_p1');
ALTER FOREIGN TABLE "tide_remote"."t4_p1_n2" OWNER TO tide_owner;
ALTER TABLE "tide_hinge"."t4_p1" ATTACH PARTITION "tide_remote"."t4_p1_n2" FOR VALUES WITH (MODULUS 1, REMAINDER 0);

-- the table on node 3, which follows in p1
CREATE SCHEMA IF NOT EXISTS "public" AUTHORIZATION tide;
CREATE TABLE "public"."acct" ("id" bigint NOT NULL, "City" text COLLATE pg_catalog."C" DEFAULT 'it''s'::text, CONSTRAINT "no ""zero""" CHECK ((id <> 0))) PARTITION BY HASH ("id");
ALTER TABLE "public"."acct" OWNER TO tide_owner;
INSERT INTO tide.distributed (relid, tid) VALUES ('"public"."acct"'::regclass, 4);
CREATE TABLE "tide_hinge"."t4_p0" PARTITION OF "public"."acct" FOR VALUES WITH (MODULUS 2, REMAINDER 0) PARTITION BY HASH ("id");
ALTER TABLE "tide_hinge"."t4_p0" OWNER TO tide_owner;
CREATE FOREIGN TABLE IF NOT EXISTS "tide_remote"."t4_p0_n1" ("id" bigint NOT NULL, "City" text COLLATE pg_catalog."C" DEFAULT 'it''s'::text, CONSTRAINT "no ""zero""" CHECK ((id <> 0))) SERVER "tide_n1" OPTIONS (schema_name 'tide_hinge', table_name 't4_p0');
ALTER FOREIGN TABLE "tide_remote"."t4_p0_n1" OWNER TO tide_owner;
ALTER TABLE "tide_hinge"."t4_p0" ATTACH PARTITION "tide_remote"."t4_p0_n1" FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE "tide_hinge"."t4_p1" PARTITION OF "public"."acct" FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY HASH ("id");
ALTER TABLE "tide_hinge"."t4_p1" OWNER TO tide_owner;
CREATE FOREIGN TABLE IF NOT EXISTS "tide_remote"."t4_p1_n2" ("id" bigint NOT NULL, "City" text COLLATE pg_catalog."C" DEFAULT 'it''s'::text, CONSTRAINT "no ""zero""" CHECK ((id <> 0))) SERVER "tide_n2" OPTIONS (schema_name 'tide_hinge', table_name 't4_p1');
ALTER FOREIGN TABLE "tide_remote"."t4_p1_n2" OWNER TO tide_owner;
ALTER TABLE "tide_hinge"."t4_p1" ATTACH PARTITION "tide_remote"."t4_p1_n2" FOR VALUES WITH (MODULUS 1, REMAINDER 0);
DO 'BEGIN IF to_regproc(''tide.attaches'') IS NULL THEN EXECUTE ''ALTER TABLE "tide_data"."t4_p1" '' || ''ADD CONSTRAINT tide_of_table CHECK ('' || ''satisfies_hash_partition('' || ''"public"."acct"''::regclass::oid || ''::oid, 2, 1, "id")'' || '')'' || '', '' || ''ADD CONSTRAINT tide_of_hinge CHECK ('' || ''satisfies_hash_partition('' || ''"tide_hinge"."t4_p1"''::regclass::oid || ''::oid, 1, 0, "id")'' || '')''; ELSE EXECUTE ''ALTER TABLE "tide_data"."t4_p1" '' || ''ADD CONSTRAINT tide_partition CHECK ('' || ''NOT tide.attaches() OR '' || ''satisfies_hash_partition('' || ''"public"."acct"''::regclass::oid || ''::oid, 2, 1, "id")'' || '' AND '' || ''satisfies_hash_partition('' || ''"tide_hinge"."t4_p1"''::regclass::oid || ''::oid, 1, 0, "id")'' || '')''; END IF; END';

-- a way to p0 on node 3
CREATE FOREIGN TABLE IF NOT EXISTS "tide_remote"."t4_p0_n3" ("id" bigint NOT NULL, "City" text COLLATE pg_catalog."C" DEFAULT 'it''s'::text, CONSTRAINT "no ""zero""" CHECK ((id <> 0))) SERVER "tide_n3" OPTIONS (schema_name 'tide_hinge', table_name 't4_p0');
ALTER FOREIGN TABLE "tide_remote"."t4_p0_n3" OWNER TO tide_owner;

-- and no more
DROP FOREIGN TABLE IF EXISTS "tide_remote"."t4_p0_n3";

-- the guard of a follower
ALTER TABLE "tide_data"."t4_p0" ENABLE TRIGGER tide_guard;

-- and of a leader
ALTER TABLE "tide_data"."t4_p0" DISABLE TRIGGER tide_guard;
