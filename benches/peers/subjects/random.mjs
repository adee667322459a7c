/** Token ids of no meaning, the same in every run. */
export const ids = (length) => Array.from({ length }, (_, index) => 2 + ((index * 7919 + length * 104729) % 32000));
