import { Validator } from "@seriousme/openapi-schema-validator";
import { apiDocument } from "./api-document.js";

/** `npm run check`: the OpenAPI document, made without engines, is valid OpenAPI 3.1. */
const document = await apiDocument();
const { valid, errors } = await new Validator().validate(document);
if (!valid) {
  process.stderr.write(`The OpenAPI document is not valid: ${JSON.stringify(errors, null, 2)}\n`);
  process.exitCode = 1;
}
