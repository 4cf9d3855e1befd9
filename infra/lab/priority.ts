/** Nice value of what stands for the network and the clock of a lab: it goes before what is being measured. */
export const PHYSICS_PRIORITY = -15;
