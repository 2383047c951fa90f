-- Two fingerprints that differ in at most three bits agree in at least one of these four bands of 16 bits.
CREATE INDEX page_band_0 ON page (((fingerprint >> 48) & 65535)) WHERE fingerprint IS NOT NULL;
CREATE INDEX page_band_1 ON page (((fingerprint >> 32) & 65535)) WHERE fingerprint IS NOT NULL;
CREATE INDEX page_band_2 ON page (((fingerprint >> 16) & 65535)) WHERE fingerprint IS NOT NULL;
CREATE INDEX page_band_3 ON page ((fingerprint & 65535)) WHERE fingerprint IS NOT NULL;
