/** The methods of a class as they are before they are replaced; called with `.call(this, …)`. */
export function methodsOf<T extends object>(patched: {
  prototype: T;
}): {
  [Name in keyof T]: T[Name] extends (...args: infer Args) => infer Result ? (this: T, ...args: Args) => Result : never;
} {
  return Object.fromEntries(
    Object.getOwnPropertyNames(patched.prototype).flatMap((name) => {
      const value: unknown = Object.getOwnPropertyDescriptor(patched.prototype, name)?.value;
      return typeof value === "function" ? [[name, value]] : [];
    }),
  ) as never;
}
