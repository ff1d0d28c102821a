import type { UserRole } from "../../schemas/generated.js";

export type Role = UserRole;

/** What a route may ask for. */
export type Permission =
  | "self"
  | "users:read"
  | "users:write"
  | "audit:read"
  | "audit:read-operations"
  | "jobs:read"
  | "jobs:write"
  | "models:read"
  | "models:write"
  | "deployments:write"
  | "metrics:read"
  | "predictions:write"
  | "predictions:read"
  | "predictions:read-own"
  | "labels:write"
  | "dead-letters:read"
  | "dead-letters:replay";

/** The only place that says who may do what. Roles inherit nothing from each other: each list is whole. */
export const PERMISSIONS: Readonly<Record<Role, readonly Permission[]>> = {
  service: ["self", "predictions:write", "predictions:read-own", "labels:write"],
  analyst: ["self", "jobs:read", "models:read", "metrics:read", "predictions:read", "labels:write"],
  operator: [
    "self",
    "audit:read-operations",
    "jobs:read",
    "jobs:write",
    "models:read",
    "models:write",
    "deployments:write",
    "metrics:read",
    "predictions:read",
    "labels:write",
    "dead-letters:read",
    "dead-letters:replay",
  ],
  admin: [
    "self",
    "users:read",
    "users:write",
    "audit:read",
    "audit:read-operations",
    "jobs:read",
    "jobs:write",
    "models:read",
    "models:write",
    "deployments:write",
    "metrics:read",
    "predictions:write",
    "predictions:read",
    "predictions:read-own",
    "labels:write",
    "dead-letters:read",
    "dead-letters:replay",
  ],
};

export const ROLES = Object.keys(PERMISSIONS) as Role[];

/** True when a role may do one of these. */
export function can(role: Role, ...permissions: readonly Permission[]): boolean {
  return permissions.some((permission) => PERMISSIONS[role].includes(permission));
}
