-- Who asked for a prediction over HTTP: the reply-to header, empty where there was none. It begins with the API copy
-- and the user, so that a service reads its own predictions only.

ALTER TABLE predictions ADD COLUMN IF NOT EXISTS reply_to String AFTER source_offset;
ALTER TABLE shadow_predictions ADD COLUMN IF NOT EXISTS reply_to String AFTER source_offset;
