BEGIN TRANSACTION;
CREATE TABLE decisions (
	position INTEGER NOT NULL, 
	transaction_id VARCHAR(128) NOT NULL, 
	received_us BIGINT NOT NULL, 
	amount FLOAT, 
	decision VARCHAR(8) NOT NULL, 
	fraud_probability FLOAT NOT NULL, 
	model_version VARCHAR(64) NOT NULL, 
	degraded VARCHAR(256), 
	late BOOLEAN NOT NULL, 
	variant VARCHAR(1), 
	experiment VARCHAR(64), 
	latency_us INTEGER NOT NULL, 
	keys TEXT NOT NULL, 
	content TEXT NOT NULL, 
	PRIMARY KEY (position)
);
INSERT INTO "decisions" VALUES(0,'a1',1,5.25,'approve',0.1,'v1',NULL,0,NULL,NULL,7,'{"card":"c1","shop":"s1"}','{"transaction_id": "a1", "event_time": 1750000000, "amount": 5.25, "card": "c1", "shop": "s1"}');
INSERT INTO "decisions" VALUES(1,'r1',1,5.25,'review',0.7,'v1',NULL,0,NULL,NULL,7,'{"card":"c1","shop":"s1"}','{"transaction_id": "r1", "event_time": 1750000000, "amount": 5.25, "card": "c1", "shop": "s1"}');
INSERT INTO "decisions" VALUES(2,'b1',1,5.25,'block',0.95,'v1',NULL,0,NULL,NULL,7,'{"card":"c1","shop":"s1"}','{"transaction_id": "b1", "event_time": 1750000000, "amount": 5.25, "card": "c1", "shop": "s1"}');
INSERT INTO "decisions" VALUES(3,'d1',1,5.25,'review',0.5,'v1','overloaded',0,NULL,NULL,7,'{"card":"c1","shop":"s1"}','{"transaction_id": "d1", "event_time": 1750000000, "amount": 5.25, "card": "c1", "shop": "s1"}');
CREATE TABLE key_entries (
	entry INTEGER NOT NULL, 
	PRIMARY KEY (entry)
);
INSERT INTO "key_entries" VALUES(23465967616);
INSERT INTO "key_entries" VALUES(23465967617);
INSERT INTO "key_entries" VALUES(23465967618);
INSERT INTO "key_entries" VALUES(23465967619);
INSERT INTO "key_entries" VALUES(47984738304);
INSERT INTO "key_entries" VALUES(47984738305);
INSERT INTO "key_entries" VALUES(47984738306);
INSERT INTO "key_entries" VALUES(47984738307);
CREATE TABLE models (
	model_version VARCHAR(64) NOT NULL, 
	"begin" BIGINT NOT NULL, 
	last BIGINT NOT NULL, 
	PRIMARY KEY (model_version, "begin")
)
 WITHOUT ROWID

;
INSERT INTO "models" VALUES('v1',0,3);
CREATE TABLE outcomes (
	position INTEGER NOT NULL, 
	transaction_id VARCHAR(128) NOT NULL, 
	is_fraud BOOLEAN NOT NULL, 
	time_us BIGINT NOT NULL, 
	about BIGINT NOT NULL, 
	received_us BIGINT NOT NULL, 
	source VARCHAR(64) NOT NULL, 
	told_by VARCHAR(128) NOT NULL, 
	reason VARCHAR(256) NOT NULL, 
	revoked_at BIGINT, 
	PRIMARY KEY (position)
);
INSERT INTO "outcomes" VALUES(4,'r1',1,9,1,1,'operator','operator','',NULL);
CREATE TABLE progress (
	log_id VARCHAR(64) NOT NULL, 
	position BIGINT NOT NULL, 
	chain BLOB NOT NULL, 
	projected_at_us BIGINT NOT NULL
);
INSERT INTO "progress" VALUES('log',5,X'636861696E',1);
CREATE TABLE totals (
	what VARCHAR(32) NOT NULL, 
	n BIGINT NOT NULL, 
	PRIMARY KEY (what)
);
INSERT INTO "totals" VALUES('approve',1);
INSERT INTO "totals" VALUES('review',2);
INSERT INTO "totals" VALUES('block',1);
INSERT INTO "totals" VALUES('outcomes',1);
INSERT INTO "totals" VALUES('without_keys',0);
CREATE INDEX decisions_not_approved ON decisions (decision, position) WHERE decision <> 'approve';
CREATE INDEX decisions_degraded ON decisions (position) WHERE degraded IS NOT NULL;
CREATE INDEX outcomes_about ON outcomes (about);
CREATE VIEW transactions AS SELECT transaction_id, (SELECT value FROM json_each(keys) LIMIT 1) AS user_id, amount,
fraud_probability AS risk_score, strftime('%Y-%m-%dT%H:%M:%fZ', received_us / 1e6, 'unixepoch') AS created_at
FROM decisions;
COMMIT;
PRAGMA user_version=2;
